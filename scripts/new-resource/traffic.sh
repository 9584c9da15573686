# shellcheck shell=bash
# What `make traffic` does with widgets. Sourced by traffic.sh.

WIDGET_ID=''
EXAMPLE_ROUNDS+=(widgets_round)

widgets_round() {
  local key=$ACME_WRITE_KEY widget
  widget='{"number":"TRAFFIC-'$(clock)'","name":"First"}'
  send POST '/v1/widgets' "$key" "$widget"
  WIDGET_ID=$(id)
  # Refused, or the time is up.
  [[ -n $WIDGET_ID ]] || return 0
  send POST '/v1/widgets' "$key" "$widget"  # 409: the number is taken
  send GET '/v1/widgets?limit=20' "$key"
  send GET '/v1/widgets/{widget_id}' "$key"
  send PATCH '/v1/widgets/{widget_id}' "$key" '{"note":"Something to remember"}'
  send DELETE '/v1/widgets/{widget_id}' "$key"
}
