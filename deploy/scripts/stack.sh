# What the deployment's scripts share; they source it, nobody runs it.
#
# Which stack they act on they are told by STACK, the Terraform output `stack` as
# JSON. They ask AWS for no names and guess none.
# shellcheck shell=bash

# What fails inside $( ) ends the script as it does outside.
shopt -s inherit_errexit

POLL_S=${POLL_S:-10}
WAIT_S=${WAIT_S:-1200}

say() { echo "$(date -u +%H:%M:%S) $*" >&2; }

fail() {
  echo "error: $*" >&2
  exit 1
}

# The comment that opens the script, which says how to use it.
usage() {
  sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
  exit 2
}

# A fact of the stack, by jq path; empty if it has none.
stack() {
  jq -r "$1 // empty" <<<"$STACK"
}

read_stack() {
  [ -n "${STACK:-}" ] ||
    fail "set STACK to what describes the stack: export STACK=\$(terraform output -json stack)"
  jq -e '.region and .repository and .ecs and has("lambda")' >/dev/null 2>&1 <<<"$STACK" ||
    fail "STACK is not the Terraform output \`stack\` in JSON"
  AWS_REGION=$(stack .region)
  export AWS_REGION AWS_DEFAULT_REGION=$AWS_REGION AWS_PAGER=
}

# Runs a command until it succeeds or WAIT_S is over. It fails to be asked again
# later; to give up it exits.
wait_until() {
  local until=$((SECONDS + WAIT_S)) what=$1
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || fail "$what: not after $WAIT_S s"
    sleep "$POLL_S"
  done
}

# Whether the repository has an image with this tag.
has_image() {
  [[ $(aws ecr describe-images --repository-name "${repository#*/}" --image-ids "imageTag=$1" \
    --query 'imageDetails[0].imageDigest' --output text) == sha256:* ]]
}

# The URI of the image with this tag, which must be in the repository: a missing
# one is found here and not by tasks that do not start.
image_uri() {
  local repository
  repository=$(stack .repository)
  has_image "$1" || fail "there is no image $1 in $repository"
  echo "$repository:$1"
}

# Makes sure the family's newest revision has this image, and prints its ARN. The
# rest is taken over from the newest one, so that what Terraform changed goes out.
revision_with() {
  local family=$1 image=$2 newest
  newest=$(aws ecs describe-task-definition --task-definition "$family" --include TAGS --output json)
  if [ "$(jq -r '.taskDefinition.containerDefinitions[] | select(.name == "millrace") | .image' <<<"$newest")" != "$image" ]; then
    # Without what ECS adds to an answer and takes in no request.
    newest=$(aws ecs register-task-definition --output json --cli-input-json "$(
      jq --arg image "$image" '
        (if (.tags // []) == [] then {} else {tags} end) + .taskDefinition
        | del(.taskDefinitionArn, .revision, .status, .requiresAttributes, .compatibilities, .registeredAt, .registeredBy)
        | with_entries(select(.value != null and .value != "" and .value != []))
        | (.containerDefinitions[] | select(.name == "millrace") | .image) = $image
      ' <<<"$newest"
    )")
    say "$family: registered revision $(jq .taskDefinition.revision <<<"$newest")"
  fi
  jq -r .taskDefinition.taskDefinitionArn <<<"$newest"
}

# Why tasks stopped, a line each.
stop_reasons() {
  aws ecs describe-tasks --cluster "$(stack .ecs.cluster)" --tasks "$@" --output json | jq -r '
    .tasks[] | select(.stoppedReason // "" != "") | [
      "  task " + (.taskArn | split("/")[-1]) + ": " + .stoppedReason,
      (.containers[] | select(.exitCode != null or .reason != null) |
        "    container " + .name + ":" + (if .exitCode != null then " exit code \(.exitCode)" else "" end) + " " + (.reason // ""))
    ][]' >&2
}
