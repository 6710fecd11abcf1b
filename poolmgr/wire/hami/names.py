"""HAMi's annotation, label and object names (pkg/util/types.go, pkg/device/nvidia/device.go, the chart)."""

REGISTER = "hami.io/node-nvidia-register"
SCORE = "hami.io/node-nvidia-score"
HANDSHAKE = "hami.io/node-handshake"
DEVICE_CORDON = "hami.io/device-cordon"

COMPONENT_LABEL = "app.kubernetes.io/component"
VERSION_LABEL = "app.kubernetes.io/version"
PLUGIN_COMPONENT = "hami-device-plugin"
SCHEDULER_COMPONENT = "hami-scheduler"
EXTENDER_CONTAINER = "vgpu-scheduler-extender"
DEVICE_CONFIG_MAP = "hami-scheduler-device"
DEVICE_CONFIG_KEY = "device-config.yaml"
