{{/* What the containers of the pod share: environment, mounts, rights, and the arithmetic of time. */}}

{{- define "wardrobe.env" -}}
- name: WARDROBE_STATE
  value: /var/lib/wardrobe
- name: WARDROBE_UNITS
  value: /etc/wardrobe/units
- name: WARDROBE_CACHE
  value: /var/cache/wardrobe
- name: WARDROBE_BASE
  value: {{ .Values.base.model | quote }}
- name: WARDROBE_ENGINE
  value: {{ .Values.engine.kind | quote }}
- name: WARDROBE_MAX_LORA_RANK
  value: {{ .Values.engine.maxLoraRank | quote }}
- name: WARDROBE_MAX_MODEL_LEN
  value: {{ .Values.engine.maxModelLen | quote }}
- name: HOME
  value: /tmp
- name: HF_HOME
  value: /var/cache/wardrobe/huggingface
- name: XDG_CACHE_HOME
  value: /var/cache/wardrobe/xdg
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Only the container that prepares the base may ask the hub; the others find it in the cache. */}}
{{- define "wardrobe.offlineEnv" -}}
- name: HF_HUB_OFFLINE
  value: "1"
{{- end -}}

{{/* The trainer's key, for the trainer that sends it and for the service that knows it by it. */}}
{{- define "wardrobe.trainerKeyEnv" -}}
{{- if .Values.trainerKey.existingSecret -}}
- name: WARDROBE_TRAINER_KEY_FILE
  value: /etc/wardrobe/trainer-key/key
{{- end -}}
{{- end -}}

{{- define "wardrobe.trainerKeyMount" -}}
{{- if .Values.trainerKey.existingSecret -}}
- name: trainer-key
  mountPath: /etc/wardrobe/trainer-key
  readOnly: true
{{- end -}}
{{- end -}}

{{/* vLLM's arguments as one shell-quoted line; the schema keeps single quotes out. */}}
{{- define "wardrobe.engineArgs" -}}
{{- $words := list -}}
{{- range .Values.engine.args -}}
{{- $words = append $words (ternary . (squote .) (regexMatch "^[A-Za-z0-9_./:=,@%+-]+$" .)) -}}
{{- end -}}
{{- join " " $words -}}
{{- end -}}

{{- define "wardrobe.mounts" -}}
- name: state
  mountPath: /var/lib/wardrobe
- name: cache
  mountPath: /var/cache/wardrobe
- name: units
  mountPath: /etc/wardrobe/units
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "wardrobe.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* OnRootMismatch: a change of group at every mount would open the key files (0600) to the group. */}}
{{- define "wardrobe.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Out of rotation, then the running answers, then 20 s for the engine to stop (`wardrobe serve` ends it after that) and 10 s to spare. */}}
{{- define "wardrobe.gracePeriod" -}}
{{- add .Values.service.preStopSeconds .Values.service.drainSeconds 30 -}}
{{- end -}}

{{/* Before this a rollout cannot be stuck: the old pod drains, images are pulled (600 s), the base is built, versions load. */}}
{{- define "wardrobe.progressDeadline" -}}
{{- add (include "wardrobe.gracePeriod" . | int) 600 .Values.base.buildSeconds .Values.service.startupSeconds -}}
{{- end -}}

{{/* True for a Hugging Face id: neither the embedded base nor a path. */}}
{{- define "wardrobe.fetchesBase" -}}
{{- if and .Values.base.model (not (hasPrefix "/" .Values.base.model)) -}}true{{- end -}}
{{- end -}}
