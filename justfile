# `just` lists the recipes. CI runs .ci/run, whose steps they are.

_list:
    @just --list --unsorted

# Everything on embedded stores, at http://127.0.0.1:8080
run *arguments:
    cargo run -- {{ arguments }}

# Format all code
fmt:
    cargo fmt

# What clippy says, with the embedded stores and without
lint:
    .ci/run format lint lint_lean

# All tests, or those whose names hold FILTER
test *filter:
    cargo test {{ filter }}

# The image as ECS and Lambda run it, and tests on stores in containers
test-containers:
    .ci/run test_containers

# Integration tests on PostgreSQL, and DynamoDB and SQS of an emulator
test-stores:
    .ci/run test_stores

# Other people's CloudEvents, webhook and OpenAPI libraries
test-python *arguments:
    tests/python/run {{ arguments }}

# The commands of the README, docs/ and the served /docs, or of the documents named
test-docs *documents:
    tests/docs/run {{ documents }}

# Every fault of the fault suite, or those named
chaos *arguments:
    tests/chaos/run {{ arguments }}

# Clients generated of the served OpenAPI document, and its linters
test-clients:
    tests/clients/run

# The console in Chromium, or the cases named; --scale with a hundred thousand events
test-browser *arguments:
    tests/browser/run {{ arguments }}

# schemathesis on the served OpenAPI document
explore *arguments:
    tests/python/explore {{ arguments }}

# Each fuzz target for half a minute, or --seconds N, or those named
fuzz *arguments:
    fuzz/run {{ arguments }}

# Write src/http/openapi.json anew; review the difference
openapi:
    UPDATE_FILES=1 cargo test --lib the_file_says_what_the_annotations_say

# Write src/config/defaults.json anew, from config.toml
defaults:
    UPDATE_FILES=1 cargo test --lib the_compiled_in_defaults_are_those_of_config_toml

# Write the inline snapshots anew (needs cargo-insta); review the difference
snapshots:
    cargo insta test --accept

# Pin what tests/python/requirements.in names (needs pip-tools)
python-lock:
    cd tests/python && CUSTOM_COMPILE_COMMAND="just python-lock" pip-compile --quiet --upgrade \
        --generate-hashes --strip-extras --no-emit-index-url --no-emit-trusted-host \
        --no-emit-find-links --output-file requirements.txt requirements.in

# Pin what the documentation's examples need (needs pip-tools)
docs-lock:
    cd tests/docs && CUSTOM_COMPILE_COMMAND="just docs-lock" pip-compile --quiet --upgrade \
        --generate-hashes --strip-extras --no-emit-index-url --no-emit-trusted-host \
        --no-emit-find-links --output-file requirements.txt requirements.in
    cd tests/docs && npm update --package-lock-only --ignore-scripts --save

# Pin what tests/clients/package.json and requirements.in name (needs pip-tools)
clients-lock:
    cd tests/clients && npm update --package-lock-only --ignore-scripts --no-audit --no-fund
    cd tests/clients && CUSTOM_COMPILE_COMMAND="just clients-lock" pip-compile --quiet --upgrade \
        --generate-hashes --strip-extras --no-emit-index-url --no-emit-trusted-host \
        --no-emit-find-links --output-file requirements.txt requirements.in

# Pin what tests/browser/requirements.in names (needs pip-tools)
browser-lock:
    cd tests/browser && CUSTOM_COMPILE_COMMAND="just browser-lock" pip-compile --quiet --upgrade \
        --generate-hashes --strip-extras --no-emit-index-url --no-emit-trusted-host \
        --no-emit-find-links --output-file requirements.txt requirements.in

# The code's documentation
doc:
    .ci/run docs
    @echo target/doc/millrace/index.html

# The pure rules, by Criterion
bench *arguments:
    cargo bench --bench pure -- {{ arguments }}

# Events accepted and delivered per second, and what that costs
load *arguments:
    cargo bench --bench load -- {{ arguments }}

# How that changes with endpoints, events kept, work left behind and cores, drawn
scale *arguments:
    cargo bench --bench load -- --scale --plots docs/performance {{ arguments }}

# Requests to AWS, DynamoDB's units and allocations of an event
cost *arguments:
    cargo bench --bench cost -- --sqs-url "$(tests/ministack start)" {{ arguments }}
    tests/ministack stop

# Where accepting spends the processor's time (needs Linux's perf)
flame *arguments:
    benches/flame docs/performance/accept.svg {{ arguments }}

# The deployed build's size and start, beside others'
coldstart *arguments:
    benches/coldstart/run {{ arguments }}

# What a page of a list reads, at ten thousand, a hundred thousand and a million events
listing *arguments:
    cargo bench --bench listing -- {{ arguments }}

# Licences, banned crates and sources of dependencies
deny:
    .ci/run dependencies

# The Terraform stack, without an AWS account
test-deploy *arguments:
    deploy/tests/run {{ arguments }}

# The scripts that release to AWS, on an emulator
test-pipeline:
    deploy/tests/run pipeline

# Linters of workflows, scripts, Dockerfile and SAM template
lint-workflows:
    .ci/run test_workflows

# Release the image TAG to the stack whose Terraform state is in deploy/
release tag:
    STACK=$(terraform -chdir=deploy output -json stack) deploy/scripts/release {{ tag }}

# All that a reviewer would run
ci *steps:
    .ci/run {{ steps }}
