#!/bin/sh
# A producer with curl: submits a file of JSON Lines over HTTP, where 201 means that all of it is durable.
#
#   export GRAPHMILL_API_KEY=gm_… GRAPHMILL_URL=http://127.0.0.1:8080
#   sh submit.sh papers documents.jsonl
#
# Each line of the file is a document: {"id": "…", "text": "…"}. The idempotency key is made of the name and the content:
# what is run again, also after it was cut off, is not submitted twice.
set -eu
name=$1 file=$2
url=${GRAPHMILL_URL:-http://127.0.0.1:8080}
key=$({ printf '%s\n' "$name"; cat "$file"; } | sha256sum | cut -c 1-64)

# The API key comes from stdin and not from the command line, which others on the machine can see.
printf 'header = "authorization: Bearer %s"\n' "$GRAPHMILL_API_KEY" |
    curl --config - --silent --show-error --fail-with-body --retry 3 \
        --header 'content-type: application/x-ndjson' --header "idempotency-key: $key" \
        --url-query "name=$name" --data-binary "@$file" "$url/api/batches"
