# Inside the node: the writes of a move and nothing else; prints a line for each move, in microseconds by step.
# bash shell_moves.sh ADDRESS HOST_DRIVER ROUNDS
set -eu
address=$1 host=$2 rounds=$3
device=/sys/bus/pci/devices/$address

move() { # to, driver, whether the reservation is lifted at the end
  local begun=${EPOCHREALTIME/./} reserved unbound probed lifted
  echo "$2" >"$device/driver_override"
  reserved=${EPOCHREALTIME/./}
  echo "$address" >"$device/driver/unbind"
  unbound=${EPOCHREALTIME/./}
  echo "$address" >/sys/bus/pci/drivers_probe
  probed=${EPOCHREALTIME/./} lifted=${EPOCHREALTIME/./}
  if [ "$3" = lift ]; then
    echo >"$device/driver_override"
    lifted=${EPOCHREALTIME/./}
  fi
  echo "{\"to\": \"$1\", \"driver_override\": $((reserved - begun + lifted - probed))," \
    "\"unbind\": $((unbound - reserved)), \"drivers_probe\": $((probed - unbound)), \"move\": $((lifted - begun))}"
}

for _ in $(seq "$rounds"); do
  move Passthrough vfio-pci keep
  move Shared "$host" lift
done
