{{- define "poolmgr.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- /* What the names of all objects begin with */ -}}
{{- define "poolmgr.fullname" -}}
{{- .Values.fullnameOverride | default (include "poolmgr.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "poolmgr.labels" -}}
app.kubernetes.io/name: {{ include "poolmgr.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* arguments: root, component */ -}}
{{- define "poolmgr.selector" -}}
app.kubernetes.io/name: {{ include "poolmgr.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "poolmgr.image" -}}
{{- $global := .Values.global | default dict -}}
{{- with $global.imageRegistry | default .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- /* arguments: root, component: metadata and first lines of a pod */ -}}
{{- define "poolmgr.podMetadata" -}}
labels:
  {{- include "poolmgr.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with (index .root.Values .component).podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := (index .root.Values .component).podAnnotations | default dict }}
{{- if .settings }}
{{- $annotations = merge (dict "poolmgr.io/settings-checksum" (.settings | sha256sum)) $annotations }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "poolmgr.pullSecrets" -}}
{{- $global := .Values.global | default dict -}}
{{- with concat .Values.imagePullSecrets ($global.imagePullSecrets | default list) }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* arguments: root, component */ -}}
{{- define "poolmgr.serviceAccount" -}}
{{ (index .root.Values .component).serviceAccount.name | default (printf "%s-%s" (include "poolmgr.fullname" .root) .component) }}
{{- end -}}

{{- define "poolmgr.managerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "poolmgr.serviceAccount" (dict "root" . "component" "manager") }}
{{- end -}}

{{- define "poolmgr.agentUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "poolmgr.serviceAccount" (dict "root" . "component" "agent") }}
{{- end -}}

{{- /* Pod Security "restricted", for pods that need nothing of their node */ -}}
{{- define "poolmgr.restrictedPod" -}}
runAsNonRoot: true
{{- if not .Values.openshift.enabled }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "poolmgr.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* arguments: root, component: as the values say, else two replicas on two nodes where there are two */ -}}
{{- define "poolmgr.spread" -}}
{{- with (index .root.Values .component).topologySpreadConstraints }}
{{- toYaml . }}
{{- else }}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "poolmgr.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "poolmgr.certificateSecret" -}}
{{- if eq .Values.webhook.certificate.source "existingSecret" -}}
{{ required "webhook.certificate.existingSecret must name the Secret when webhook.certificate.source is existingSecret" .Values.webhook.certificate.existingSecret }}
{{- else -}}
{{ include "poolmgr.fullname" . }}-webhook-certificate
{{- end -}}
{{- end -}}

{{- define "poolmgr.servingNames" -}}
{{- if .Values.webhook.url -}}
{{ (urlParse .Values.webhook.url).hostname }}
{{- else -}}
{{ include "poolmgr.fullname" . }}-webhook.{{ .Release.Namespace }}.svc
{{- end -}}
{{- end -}}

{{- /* arguments: root, path */ -}}
{{- define "poolmgr.clientConfig" -}}
{{- if .root.Values.webhook.url -}}
url: {{ printf "%s/admit/%s" (trimSuffix "/" .root.Values.webhook.url) .path | quote }}
{{- else -}}
service:
  name: {{ include "poolmgr.fullname" .root }}-webhook
  namespace: {{ .root.Release.Namespace }}
  path: /admit/{{ .path }}
  port: 443
{{- end }}
{{- if eq .root.Values.webhook.certificate.source "existingSecret" }}
caBundle: {{ required "webhook.certificate.caBundle is needed with existingSecret" .root.Values.webhook.certificate.caBundle }}
{{- end }}
{{- end -}}

{{- /* arguments: root, hook: what all webhooks have in common */ -}}
{{- define "poolmgr.webhookCommon" -}}
admissionReviewVersions: [v1]
sideEffects: None
matchPolicy: Equivalent
failurePolicy: {{ .hook.failurePolicy }}
timeoutSeconds: {{ .root.Values.webhook.timeoutSeconds }}
{{- end -}}

{{- define "poolmgr.namespaceSelector" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values:
      - {{ .Release.Namespace }}
      {{- range .Values.webhook.excludedNamespaces }}
      - {{ . }}
      {{- end }}
{{- end -}}

{{- /* Where the manager listens: what its probes and its Service ask */ -}}
{{- define "poolmgr.managerPort" -}}
{{ index .Values.manager.settings "POOLMGR_API__PORT" | default 8080 | int }}
{{- end -}}
