{{/*
What the servers have in common that the chart installs for gateways: the store of logs (logs.yaml) and the event queue
(events.yaml). Each is a StatefulSet of one pod, with a volume at /data, which gateways alone reach.
*/}}

{{/* A size of a volume in MiB, which is a number with Mi, Gi or Ti. */}}
{{- define "pilotlight.mib" -}}
{{- $mib := int64 (regexFind "^[0-9]+" .) }}
{{- if hasSuffix "Gi" . }}{{ $mib = mul $mib 1024 }}{{ end }}
{{- if hasSuffix "Ti" . }}{{ $mib = mul $mib 1048576 }}{{ end }}
{{- $mib }}
{{- end }}

{{/* The beginning of the pod's spec. Takes $. */}}
{{- define "pilotlight.serverPod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  # The image names no user.
  runAsUser: 65534
  runAsGroup: 65534
  fsGroup: 65534
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The end of the StatefulSet: where the pod goes, and its data. `volumes` of the pod's spec come before. Takes the server's values. */}}
{{- define "pilotlight.serverEnd" -}}
        {{- if not .volume }}
        - name: data
          emptyDir:
            sizeLimit: {{ .size }}
        {{- end }}
      {{- $server := . }}
      {{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
      {{- with get $server $field }}
      {{- dict $field . | toYaml | nindent 6 }}
      {{- end }}
      {{- end }}
  {{- if .volume }}
  # The volume stays when the release goes, and when the value `size` changes.
  volumeClaimTemplates:
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .storageClass }}
        storageClassName: {{ . | quote }}
        {{- end }}
        resources:
          requests:
            storage: {{ .size }}
  {{- end }}
{{- end }}

{{/* The metadata of an object of a server. Takes (list $ COMPONENT). */}}
{{- define "pilotlight.serverMetadata" -}}
name: {{ include "pilotlight.name" (index . 0) }}-{{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "pilotlight.labels" . | nindent 2 }}
{{- end }}

{{/* The Service, and who may reach it. Takes (list $ COMPONENT PORT-NAME PORT WHO-REACHES-IT). */}}
{{- define "pilotlight.serverService" -}}
{{- $root := index . 0 }}
{{- $server := list $root (index . 1) }}
{{- $port := index . 2 }}
apiVersion: v1
kind: Service
metadata: {{- include "pilotlight.serverMetadata" $server | nindent 2 }}
spec:
  selector: {{- include "pilotlight.selector" $server | nindent 4 }}
  ports:
    - name: {{ $port }}
      port: {{ index . 3 }}
      targetPort: {{ $port }}
{{- if $root.Values.networkPolicy.enabled }}
---
# Who reaches {{ index . 4 }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{- include "pilotlight.serverMetadata" $server | nindent 2 }}
spec:
  podSelector:
    matchLabels: {{- include "pilotlight.selector" $server | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - port: {{ $port }}
      from:
        - podSelector:
            matchLabels: {{- include "pilotlight.selector" (list $root "gateway") | nindent 14 }}
  # It connects to nobody.
  egress: []
{{- end }}
{{- end }}
