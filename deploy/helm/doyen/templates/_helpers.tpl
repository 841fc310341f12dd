{{- define "doyen.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "doyen.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "doyen.labels" -}}
{{ include "doyen.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "doyen.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "doyen.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "doyen.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "doyen.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "doyen.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "doyen.env" -}}
{{- if .Values.postgresql.existingSecret }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.postgresql.existingSecret }}
      key: {{ .Values.postgresql.key }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Copies settings, and the server's keys, into the expert's folder: mounted there, their folders would be root's. */}}
{{- define "doyen.prepare" -}}
- name: prepare
  image: {{ include "doyen.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - python
    - -c
    - |
      import os, pathlib, shutil
      for given, place in (("settings/doyen.toml", "doyen.toml"), ("keys/keys.json", "serving/keys.json")):
          if (source := pathlib.Path("/given", given)).is_file():
              target = pathlib.Path("/expert", place)
              target.parent.mkdir(exist_ok=True)
              shutil.copyfile(source, part := target.with_name("." + target.name))
              part.chmod(0o600)
              os.replace(part, target)
  securityContext:
    {{- include "doyen.security" . | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 32Mi}
    limits: {memory: 128Mi}
  volumeMounts:
    - name: expert
      mountPath: /expert
    - name: settings
      mountPath: /given/settings
      readOnly: true
{{- end -}}

{{- define "doyen.mounts" -}}
- name: expert
  mountPath: /expert
- name: models
  mountPath: /models
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.documents.existingClaim }}
- name: documents
  mountPath: /documents
  readOnly: true
{{- end }}
{{- end -}}

{{- define "doyen.volumes" -}}
- name: expert
  persistentVolumeClaim:
    claimName: {{ .Values.expert.existingClaim | default (printf "%s-expert" (include "doyen.fullname" .)) }}
- name: models
  persistentVolumeClaim:
    claimName: {{ .Values.models.existingClaim | default (printf "%s-models" (include "doyen.fullname" .)) }}
- name: settings
  configMap:
    name: {{ include "doyen.fullname" . }}
- name: tmp
  emptyDir:
    sizeLimit: 4Gi
{{- if .Values.documents.existingClaim }}
- name: documents
  persistentVolumeClaim:
    claimName: {{ .Values.documents.existingClaim }}
    readOnly: true
{{- end }}
{{- end -}}

{{/* A volume of one node: what writes it must run where it is served. */}}
{{- define "doyen.besideServer" -}}
{{- if not (has "ReadWriteMany" .Values.expert.accessModes) }}
podAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "doyen.selector" . | nindent 10 }}
          app.kubernetes.io/component: server
{{- end }}
{{- end -}}

{{- define "doyen.ingestPod" -}}
metadata:
  labels:
    {{- include "doyen.selector" . | nindent 4 }}
    app.kubernetes.io/component: ingest
spec:
  restartPolicy: OnFailure
  serviceAccountName: {{ include "doyen.serviceAccount" . }}
  automountServiceAccountToken: false
  securityContext:
    {{- include "doyen.podSecurity" . | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "doyen.besideServer" . | trim }}
  affinity:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  initContainers:
    {{- include "doyen.prepare" . | nindent 4 }}
  containers:
    - name: ingest
      image: {{ include "doyen.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: {{ concat (list "ingest") .Values.ingest.sources (list "--expert" "/expert") .Values.ingest.args | toJson }}
      {{- with include "doyen.env" . | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "doyen.security" . | nindent 8 }}
      resources:
        {{- toYaml .Values.ingest.resources | nindent 8 }}
      volumeMounts:
        {{- include "doyen.mounts" . | nindent 8 }}
  volumes:
    {{- include "doyen.volumes" . | nindent 4 }}
{{- end -}}
