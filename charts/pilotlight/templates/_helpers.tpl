{{/* Begins each name in the release's namespace; leaves room for `-controller` in 63 characters. */}}
{{- define "pilotlight.name" -}}
{{- ternary .Release.Name (printf "%s-pilotlight" .Release.Name) (contains "pilotlight" .Release.Name) | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "pilotlight.functionNamespace" -}}
{{- .Values.functionNamespace | default .Release.Namespace }}
{{- end }}

{{/* The next two take (list $ COMPONENT). */}}
{{- define "pilotlight.selector" -}}
app.kubernetes.io/name: pilotlight
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "pilotlight.labels" -}}
{{- $chart := (index . 0).Chart -}}
{{ include "pilotlight.selector" . }}
app.kubernetes.io/version: {{ $chart.AppVersion | quote }}
app.kubernetes.io/part-of: pilotlight
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $chart.Name $chart.Version | replace "+" "_" }}
{{- end }}

{{- define "pilotlight.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "pilotlight.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Where a component's pods go: apart from each other, else as its values say. Takes (list $ COMPONENT). */}}
{{- define "pilotlight.placement" -}}
{{- $values := get (index . 0).Values (index . 1) }}
{{- $like := dict "labelSelector" (dict "matchLabels" (include "pilotlight.selector" . | fromYaml)) "matchLabelKeys" (list "pod-template-hash") }}
{{- $node := dict "topologyKey" "kubernetes.io/hostname" "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" }}
{{- /* A constraint of the zone would void that of the node where nodes have no zone. */}}
{{- $zone := dict "topologyKey" "topology.kubernetes.io/zone" }}
{{- $apart := dict "weight" 100 "podAffinityTerm" (merge $zone $like) }}
{{- $affinity := dict "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list $apart)) }}
topologySpreadConstraints: {{- list (merge $node $like) | toYaml | nindent 2 }}
affinity: {{- $values.affinity | default $affinity | toYaml | nindent 2 }}
{{- range $field := list "nodeSelector" "tolerations" "priorityClassName" }}
{{- with get $values $field }}
{{ dict $field . | toYaml }}
{{- end }}
{{- end }}
{{- end }}
