{{/* What the containers share: environment, mounts, rights, and the arithmetic of time. */}}

{{/* True where the registry is a database of its own: pods of the service keep nothing, and the trainer has a pod of its own. */}}
{{- define "wardrobe.replicated" -}}
{{- if .Values.database.existingSecret -}}true{{- end -}}
{{- end -}}

{{- define "wardrobe.env" -}}
- name: WARDROBE_STATE
  value: /var/lib/wardrobe
- name: WARDROBE_UNITS
  value: /etc/wardrobe/units
- name: WARDROBE_CACHE
  value: /var/cache/wardrobe
- name: WARDROBE_BASE
  value: {{ .Values.base.model | default "tiny" | quote }}
- name: WARDROBE_ENGINE
  value: {{ .Values.engine.kind | quote }}
- name: WARDROBE_MAX_LORA_RANK
  value: {{ .Values.engine.maxLoraRank | quote }}
- name: WARDROBE_MAX_MODEL_LEN
  value: {{ .Values.engine.maxModelLen | quote }}
{{- include "wardrobe.artifactsEnv" . }}
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

{{- define "wardrobe.artifactsEnv" -}}
{{- with .Values.artifacts -}}
{{- if .url }}
- name: WARDROBE_ARTIFACTS
  value: {{ .url | quote }}
- name: WARDROBE_ARTIFACT_CACHE_GIB
  value: {{ .cacheGib | quote }}
{{- with .endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The storage's own variables, which its client reads under its own names. */}}
{{- define "wardrobe.artifactsSecret" -}}
{{- with .Values.artifacts.existingSecret -}}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end -}}
{{- end -}}

{{/* The registry's address, for the service and the trainer. */}}
{{- define "wardrobe.databaseEnv" -}}
{{- with .Values.database -}}
{{- if .existingSecret -}}
- name: WARDROBE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret }}
      key: {{ .key }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Only the container that prepares the base may ask the hub; the others find it in the cache. */}}
{{- define "wardrobe.offlineEnv" -}}
- name: HF_HUB_OFFLINE
  value: "1"
{{- end -}}

{{/* Files and no variables: a variable is inherited by every process of the engine. */}}
{{- define "wardrobe.keyEnv" -}}
{{- if .Values.adminKey.existingSecret }}
- name: WARDROBE_ADMIN_KEY_FILE
  value: /etc/wardrobe/admin-key/key
{{- end }}
{{- if .Values.metricsKey.existingSecret }}
- name: WARDROBE_METRICS_KEY_FILE
  value: /etc/wardrobe/metrics-key/key
{{- end }}
{{- if .Values.unitKeys.existingSecret }}
- name: WARDROBE_UNIT_KEYS
  value: /etc/wardrobe/unit-keys
{{- end }}
{{- if .Values.pepper.existingSecret }}
- name: WARDROBE_PEPPER_FILE
  value: /etc/wardrobe/pepper/pepper
{{- end }}
{{- end -}}

{{- define "wardrobe.keyMounts" -}}
{{- if .Values.adminKey.existingSecret }}
- name: admin-key
  mountPath: /etc/wardrobe/admin-key
  readOnly: true
{{- end }}
{{- if .Values.metricsKey.existingSecret }}
- name: metrics-key
  mountPath: /etc/wardrobe/metrics-key
  readOnly: true
{{- end }}
{{- if .Values.unitKeys.existingSecret }}
- name: unit-keys
  mountPath: /etc/wardrobe/unit-keys
  readOnly: true
{{- end }}
{{- if .Values.pepper.existingSecret }}
- name: pepper
  mountPath: /etc/wardrobe/pepper
  readOnly: true
{{- end }}
{{- end -}}

{{- define "wardrobe.keyVolumes" -}}
{{- with .Values.adminKey.existingSecret }}
- name: admin-key
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.Values.adminKey.key }}, path: key}]
{{- end }}
{{- with .Values.metricsKey.existingSecret }}
- name: metrics-key
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.Values.metricsKey.key }}, path: key}]
{{- end }}
{{- with .Values.unitKeys.existingSecret }}
- name: unit-keys
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.pepper.existingSecret }}
- name: pepper
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.Values.pepper.key }}, path: pepper}]
{{- end }}
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

{{- define "wardrobe.trainerKeyVolume" -}}
{{- with .Values.trainerKey.existingSecret -}}
- name: trainer-key
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.Values.trainerKey.key }}, path: key}]
{{- end -}}
{{- end -}}

{{/* The key that versions are signed with, and those whose signatures count: for whoever publishes, imports or serves. */}}
{{- define "wardrobe.signingEnv" -}}
{{- if .Values.signingKey.existingSecret }}
- name: WARDROBE_SIGNING_KEY_FILE
  value: /etc/wardrobe/signing-key/key
{{- end }}
{{- if .Values.trustedKeys.existingConfigMap }}
- name: WARDROBE_TRUSTED_KEYS
  value: /etc/wardrobe/trusted-keys
{{- end }}
{{- end -}}

{{- define "wardrobe.signingMounts" -}}
{{- if .Values.signingKey.existingSecret }}
- name: signing-key
  mountPath: /etc/wardrobe/signing-key
  readOnly: true
{{- end }}
{{- if .Values.trustedKeys.existingConfigMap }}
- name: trusted-keys
  mountPath: /etc/wardrobe/trusted-keys
  readOnly: true
{{- end }}
{{- end -}}

{{- define "wardrobe.signingVolumes" -}}
{{- with .Values.signingKey.existingSecret }}
- name: signing-key
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.Values.signingKey.key }}, path: key}]
{{- end }}
{{- with .Values.trustedKeys.existingConfigMap }}
- name: trusted-keys
  configMap:
    name: {{ . }}
{{- end }}
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
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "wardrobe.unitsMount" -}}
- name: units
  mountPath: /etc/wardrobe/units
  readOnly: true
{{- end -}}

{{/* The trainer alone sees the directories of people, beside the units' files: a unit names them plainly. */}}
{{- define "wardrobe.trainerUnitsMount" -}}
- name: {{ ternary "trainer-units" "units" (gt (len .Values.directories.existingSecrets) 0) }}
  mountPath: /etc/wardrobe/units
  readOnly: true
{{- end -}}

{{/* Of the trainer's pod. A projected volume changes in place, as the units' own does. */}}
{{- define "wardrobe.trainerUnitsVolume" -}}
{{- with .Values.directories.existingSecrets -}}
- name: trainer-units
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ . }}
      {{- end }}
      # Last, so that no Secret takes the place of a unit's file.
      - configMap:
          name: {{ include "wardrobe.fullname" $ }}-units
{{- end -}}
{{- end -}}

{{/* Of every pod: the base, the units, temporary files. */}}
{{- define "wardrobe.volumes" -}}
- name: cache
  {{- if .Values.cache.persistent }}
  persistentVolumeClaim:
    claimName: {{ include "wardrobe.cacheClaim" . }}
  {{- else }}
  emptyDir: {}
  {{- end }}
# A directory without subPath and no checksum annotation: the kubelet changes the files in place.
- name: units
  configMap:
    name: {{ include "wardrobe.fullname" . }}-units
# Holds eight uploads at once, each up to its unit's limit.
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.service.temporarySpace }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "wardrobe.stateVolume" -}}
- name: state
  persistentVolumeClaim:
    claimName: {{ include "wardrobe.stateClaim" . }}
{{- end -}}

{{/* What a pod says of itself, before its containers. */}}
{{- define "wardrobe.podMetadata" -}}
labels:
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- .selector | nindent 2 }}
annotations:
  kubectl.kubernetes.io/default-container: {{ .container }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "wardrobe.podHead" -}}
serviceAccountName: {{ include "wardrobe.serviceAccountName" . }}
automountServiceAccountToken: false
# A Service called `vllm` would put VLLM_PORT=tcp://… into the environment and kill the engine.
enableServiceLinks: false
securityContext:
  {{- include "wardrobe.podSecurity" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "wardrobe.baseContainer" -}}
- name: base
  image: {{ include "wardrobe.image" (dict "image" .Values.trainer.image "root" .) }}
  imagePullPolicy: {{ .Values.trainer.image.pullPolicy }}
  args: [base, build]
  env:
    {{- include "wardrobe.env" . | nindent 4 }}
    {{- with .Values.base.tokenSecret }}
    - name: HF_TOKEN
      valueFrom:
        secretKeyRef:
          name: {{ . }}
          key: {{ $.Values.base.tokenKey }}
    {{- end }}
  {{- include "wardrobe.artifactsSecret" . | nindent 2 }}
  resources:
    {{- toYaml .Values.trainer.resources | nindent 4 }}
  securityContext:
    {{- include "wardrobe.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "wardrobe.unitsMount" . | nindent 4 }}
    {{- include "wardrobe.mounts" . | nindent 4 }}
{{- end -}}

{{- define "wardrobe.trainerContainer" -}}
- name: trainer
  image: {{ include "wardrobe.image" (dict "image" .Values.trainer.image "root" .) }}
  imagePullPolicy: {{ .Values.trainer.image.pullPolicy }}
  args: [trainer]
  env:
    {{- include "wardrobe.offlineEnv" . | nindent 4 }}
    - name: WARDROBE_SERVICE_URL
      value: {{ include "wardrobe.serviceUrl" . }}
    {{- if include "wardrobe.authority" . }}
    - name: WARDROBE_SERVICE_CA
      value: /etc/wardrobe/authority/ca.crt
    {{- end }}
    {{- include "wardrobe.databaseEnv" . | nindent 4 }}
    {{- include "wardrobe.trainerKeyEnv" . | nindent 4 }}
    {{- include "wardrobe.signingEnv" . | nindent 4 }}
    - name: WARDROBE_TRAIN_DEVICES
      value: {{ .Values.trainer.devices | quote }}
    {{- if .Values.podMonitor.enabled }}
    - name: WARDROBE_TRAIN_METRICS_PORT
      value: {{ .Values.trainer.metricsPort | quote }}
    {{- end }}
    {{- include "wardrobe.env" . | nindent 4 }}
  {{- include "wardrobe.artifactsSecret" . | nindent 2 }}
  {{- if .Values.podMonitor.enabled }}
  ports:
    - name: trainer-metrics
      containerPort: {{ .Values.trainer.metricsPort }}
  {{- end }}
  resources:
    {{- toYaml .Values.trainer.resources | nindent 4 }}
  securityContext:
    {{- include "wardrobe.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- if gt (int .Values.trainer.devices) 1 }}
    - name: trainer-shm
      mountPath: /dev/shm
    {{- end }}
    {{- include "wardrobe.trainerKeyMount" . | nindent 4 }}
    {{- include "wardrobe.signingMounts" . | nindent 4 }}
    {{- include "wardrobe.authorityMount" . | nindent 4 }}
    {{- include "wardrobe.trainerUnitsMount" . | nindent 4 }}
    {{- include "wardrobe.mounts" . | nindent 4 }}
{{- end -}}

{{/* nccl passes numbers between GPUs through it where they cannot reach each other; a container's own has 64 MiB. */}}
{{- define "wardrobe.trainerShmVolume" -}}
{{- if gt (int .Values.trainer.devices) 1 }}
- name: trainer-shm
  emptyDir:
    medium: Memory
    sizeLimit: 1Gi
{{- end }}
{{- end -}}

{{/* Where the trainer reaches the service: beside it, or by its Service. */}}
{{- define "wardrobe.serviceUrl" -}}
{{- if include "wardrobe.replicated" . -}}
{{ include "wardrobe.scheme" . | lower }}://{{ include "wardrobe.host" . }}:{{ .Values.expose.port }}
{{- else if .Values.tls.existingSecret -}}
https://{{ include "wardrobe.host" . }}:8000
{{- else -}}
http://127.0.0.1:8000
{{- end -}}
{{- end -}}

{{/* In one pod the trainer calls the service beside it, by the name in the certificate. */}}
{{- define "wardrobe.hostAliases" -}}
{{- if .Values.tls.existingSecret -}}
hostAliases:
  - ip: 127.0.0.1
    hostnames: [{{ include "wardrobe.host" . }}]
{{- end -}}
{{- end -}}

{{/* The pod calls itself by the name in its certificate: that is how the command line in it trusts it. */}}
{{- define "wardrobe.tlsEnv" -}}
{{- if .Values.tls.existingSecret -}}
- name: WARDROBE_SERVICE_URL
  value: https://{{ include "wardrobe.host" . }}:8000
{{- if include "wardrobe.authority" . }}
- name: WARDROBE_SERVICE_CA
  value: /etc/wardrobe/authority/ca.crt
{{- end }}
- name: WARDROBE_TLS_CERT
  value: /etc/wardrobe/tls/tls.crt
- name: WARDROBE_TLS_KEY
  value: /etc/wardrobe/tls/tls.key
{{- end -}}
{{- end -}}

{{/* A directory without subPath: the kubelet changes the pair in place. */}}
{{- define "wardrobe.tlsMount" -}}
{{- if .Values.tls.existingSecret -}}
- name: tls
  mountPath: /etc/wardrobe/tls
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "wardrobe.tlsVolume" -}}
{{- with .Values.tls.existingSecret -}}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- end -}}
{{- end -}}

{{/* The authority's certificate, for who calls the service; the key of the service's own stays with the service. */}}
{{- define "wardrobe.authority" -}}
{{- if and .Values.tls.existingSecret .Values.tls.authorityKey -}}true{{- end -}}
{{- end -}}

{{- define "wardrobe.authorityMount" -}}
{{- if include "wardrobe.authority" . -}}
- name: authority
  mountPath: /etc/wardrobe/authority
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "wardrobe.authorityVolume" -}}
{{- if include "wardrobe.authority" . -}}
- name: authority
  secret:
    secretName: {{ .Values.tls.existingSecret }}
    defaultMode: 0440
    items: [{key: {{ .Values.tls.authorityKey }}, path: ca.crt}]
{{- end -}}
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

{{/* True for a Hugging Face id: neither the embedded base, nor a path, nor one of the artifact store. */}}
{{- define "wardrobe.fetchesBase" -}}
{{- $base := .Values.base.model -}}
{{- if and $base (not (hasPrefix "/" $base)) (not (hasPrefix "store:" $base)) -}}true{{- end -}}
{{- end -}}
