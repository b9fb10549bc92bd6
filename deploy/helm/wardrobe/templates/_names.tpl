{{/* Names and labels. 53 characters leave room for the longest suffix (`-test`, `-state`). */}}
{{- define "wardrobe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "wardrobe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains (include "wardrobe.name" .) .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "wardrobe.name" .) | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of every object. */}}
{{- define "wardrobe.labels" -}}
{{ include "wardrobe.owner" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "wardrobe.owner" -}}
app.kubernetes.io/name: {{ include "wardrobe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Of the pods that answer, and of nothing else: the trainer's and the test's share only the owner. */}}
{{- define "wardrobe.selector" -}}
{{ include "wardrobe.owner" . }}
app.kubernetes.io/component: service
{{- end -}}

{{- define "wardrobe.trainerSelector" -}}
{{ include "wardrobe.owner" . }}
app.kubernetes.io/component: trainer
{{- end -}}

{{- define "wardrobe.serviceAccountName" -}}
{{- default (ternary (include "wardrobe.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* `HTTPS` or `HTTP`, as probes say it. */}}
{{- define "wardrobe.scheme" -}}
{{- ternary "HTTPS" "HTTP" (ne .Values.tls.existingSecret "") -}}
{{- end -}}

{{/* What the service is called by who calls it: with TLS, the name in its certificate. */}}
{{- define "wardrobe.host" -}}
{{- if .Values.tls.existingSecret -}}
{{- default (printf "%s.%s.svc" (include "wardrobe.fullname" .) .Release.Namespace) .Values.tls.serverName -}}
{{- else -}}
{{- include "wardrobe.fullname" . -}}
{{- end -}}
{{- end -}}

{{- define "wardrobe.stateClaim" -}}
{{- default (printf "%s-state" (include "wardrobe.fullname" .)) .Values.state.existingClaim -}}
{{- end -}}

{{- define "wardrobe.cacheClaim" -}}
{{- default (printf "%s-cache" (include "wardrobe.fullname" .)) .Values.cache.existingClaim -}}
{{- end -}}

{{/* image, root → reference. The tag carries the engine's kind, so that a CPU image cannot land on a GPU by default. */}}
{{- define "wardrobe.image" -}}
{{- $tag := default (printf "%s-%s" .root.Chart.AppVersion .root.Values.engine.kind) .image.tag -}}
{{- with .image.registry }}{{ . }}/{{ end }}{{ .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end -}}
