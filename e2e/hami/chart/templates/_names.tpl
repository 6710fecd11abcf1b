{{- define "image" -}}
docker.io/projecthami/hami:{{ .Values.global.imageTag | default (printf "v%s" .Chart.AppVersion) }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/name: hami
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{ include "selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* 2.10 and newer. */ -}}
{{- define "new" -}}
{{ if semverCompare ">=2.10.0" .Chart.AppVersion }}yes{{ end }}
{{- end }}
