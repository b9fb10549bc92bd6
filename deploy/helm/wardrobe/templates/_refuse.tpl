{{/* Rules between values, which the schema cannot say clearly. */}}
{{- define "wardrobe.refuse" -}}
{{- $engine := .Values.engine -}}
{{- $owners := dict -}}
{{- range $unit, $config := .Values.units -}}
{{- range $config.aliases -}}
{{- with get $owners . -}}
{{- fail (printf "units.%s.aliases: an alias of unit %s stands here again; an alias belongs to one unit" $unit .) -}}
{{- end -}}
{{- $_ := set $owners . $unit -}}
{{- end -}}
{{- end -}}
{{- range $unit, $config := .Values.units -}}
{{- $data := default dict $config.data -}}
{{- if and $data.directories (not $.Values.directories.existingSecrets) -}}
{{- fail (printf "units.%s.data.directories names %s: set directories.existingSecrets to a Secret with that key" $unit (first $data.directories)) -}}
{{- end -}}
{{- end -}}
{{- if le (int $engine.maxCpuLoras) (len $owners) -}}
{{- fail (printf "engine.maxCpuLoras is %d, but %d aliases need at least %d: a new version is loaded beside the live ones" (int $engine.maxCpuLoras) (len $owners) (add (len $owners) 1)) -}}
{{- end -}}
{{- if lt (int $engine.maxCpuLoras) (int $engine.maxLoras) -}}
{{- fail (printf "engine.maxCpuLoras (%d) must not be below engine.maxLoras (%d)" (int $engine.maxCpuLoras) (int $engine.maxLoras)) -}}
{{- end -}}
{{- $devices := omit (default dict .Values.service.resources.limits) "cpu" "memory" "ephemeral-storage" -}}
{{- if and (eq $engine.kind "gpu") (not $devices) -}}
{{- fail "engine.kind is gpu, but service.resources.limits names no device: add for example nvidia.com/gpu: \"1\"" -}}
{{- end -}}
{{- $admin := .Values.adminKey -}}
{{- $trainer := .Values.trainerKey -}}
{{- if and $trainer.existingSecret (eq $admin.existingSecret $trainer.existingSecret) (eq $admin.key $trainer.key) -}}
{{- fail "trainerKey names the same key as adminKey: the trainer needs a key of its own, and is never admin" -}}
{{- end -}}
{{- include "wardrobe.refuseReplicas" . -}}
{{- $metrics := .Values.metricsKey -}}
{{- range $name, $other := dict "adminKey" $admin "trainerKey" $trainer -}}
{{- if and $metrics.existingSecret (eq $metrics.existingSecret $other.existingSecret) (eq $metrics.key $other.key) -}}
{{- fail (printf "metricsKey names the same key as %s: a scrape needs a key that may do nothing else" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not $metrics.existingSecret) -}}
{{- fail "serviceMonitor.enabled needs metricsKey.existingSecret: /metrics is closed without a key, and Prometheus reads it from a Secret" -}}
{{- end -}}
{{- end -}}

{{/* What several pods need to be one service. */}}
{{- define "wardrobe.refuseReplicas" -}}
{{- $values := .Values -}}
{{- if and (hasPrefix "store:" $values.base.model) (not $values.artifacts.url) -}}
{{- fail "base.model names the artifact store: set artifacts.url" -}}
{{- end -}}
{{- if include "wardrobe.replicated" . -}}
{{- if not $values.artifacts.url -}}
{{- fail "database.existingSecret needs artifacts.url: pods with one registry share their artifacts too" -}}
{{- end -}}
{{- range $name := list "adminKey" "trainerKey" "pepper" -}}
{{- if not (get (get $values $name) "existingSecret") -}}
{{- fail (printf "database.existingSecret needs %s.existingSecret: what a pod makes is lost with it, and no other pod knows it" $name) -}}
{{- end -}}
{{- end -}}
{{- if not $values.base.model -}}
{{- fail "database.existingSecret needs base.model: the embedded base is not the same to the last bit in each pod; publish it (`wardrobe base publish`) and name it store:<digest>" -}}
{{- end -}}
{{- if and $values.cache.persistent (not (has "ReadWriteMany" $values.cache.accessModes)) -}}
{{- fail "database.existingSecret needs cache.persistent=false, or cache.accessModes=[ReadWriteMany]: several pods use the cache" -}}
{{- end -}}
{{- else if gt (int $values.replicas) 1 -}}
{{- fail (printf "replicas is %d, but the registry is one SQLite file on one volume: set database.existingSecret, artifacts.url, and bring the keys" (int $values.replicas)) -}}
{{- end -}}
{{- end -}}
