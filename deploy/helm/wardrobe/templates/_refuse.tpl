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
{{- if and .Values.serviceMonitor.enabled (not .Values.adminKey.existingSecret) -}}
{{- fail "serviceMonitor.enabled needs adminKey.existingSecret: /metrics is closed without a key, and Prometheus reads it from a Secret" -}}
{{- end -}}
{{- end -}}
