# The commands of the project: CI calls nothing else. `make help` lists them.
.DEFAULT_GOAL := help
# No target is a file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' Makefile)

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start everything and the service; Ctrl-C stops all of it
	@exec scripts/run.sh

test: ## Run the whole suite against real Postgres and Redis
	@exec scripts/test.sh

hooks: ## Check each commit in a second or two (scripts/hooks); OFF=1 ends it
	@OFF="$(OFF)" scripts/hooks.sh

lint: ## Formatting, clippy, and shell scripts
	@scripts/lint.sh

manifests: ## Render, validate and scan what deploy/ says: Kubernetes, image, Prometheus, Alertmanager
	@scripts/manifests.sh
	@scripts/rules.sh
	@[ -n "$(TESTED)" ] || cargo test --locked --quiet --test it -- repo::deploy repo::docs

check: lint test ## What must be green before a commit: lint, test and the static checks of deploy/
	@$(MAKE) --no-print-directory manifests TESTED=1

ci: ## Everything CI runs
	@scripts/ci.sh

dashboards-check: ## Run each query of each dashboard against a real Prometheus and a service under faulty traffic
	@exec scripts/dashboards-check.sh

docs: ## Write the generated documents anew
	@scripts/docs.sh

bench: ## Measure the release build: time to the first answer, memory, and what telemetry costs
	@exec scripts/bench.sh

bench-pieces: ## Measure each piece of the observing layer (criterion)
	@cargo bench --locked --quiet --features bench --bench pieces

profile: ## Profile a running service: ADMIN=host:port, FOR=seconds
	@exec scripts/profile.sh "$(or $(ADMIN),127.0.0.1:9464)" "$(or $(FOR),30)"

schemathesis: ## Throw 2,000 generated requests at the API
	@exec scripts/schemathesis.sh

fuzz: ## Fuzz one target for a while: TARGET=cursor FOR=60
	@exec scripts/fuzz.sh "$(or $(TARGET),cursor)" "$(or $(FOR),60)"

chaos: ## Faults under load at full length, and the table of docs/reliability.md: ROWS="restarts hangups" for some
	@ROWS="$(ROWS)" exec scripts/chaos.sh

drill: ## Break a running stack for each alert and mend it as its runbook says: ALERT=PostgresDown for one, LANES=3
	@ALERT="$(ALERT)" exec scripts/drill.sh

runbook: ## Walk through a runbook: A=PostgresDown, RUN=1 to run its commands one by one, WHERE=cluster
	@exec scripts/runbook.sh "$(A)"

image: ## Build the image keel:dev and check it, with Docker or buildah
	@exec scripts/image.sh

up: ## Start all of it in containers: two services, sandbox, Postgres, Redis and the observability stack
	@exec scripts/up.sh

down: ## Stop the containers; the data stays
	@exec scripts/up.sh down

traffic: ## Send requests to all routes, faults included: ADDRESS=http://127.0.0.1:8080 FOR=60 RATE=20
	@exec scripts/traffic.sh

new-resource: ## Add a resource with routes, table, metrics, panel and tests: NAME=invoices, SINGULAR=invoice
	@NAME="$(NAME)" SINGULAR="$(SINGULAR)" DOMAIN="$(DOMAIN)" DOCS="$(DOCS)" exec scripts/new-resource.sh

migrate: ## Apply missing migrations to DATABASE_MIGRATION_URL
	@cargo run --locked --quiet --bin keel -- migrate

features: ## Compile each combination of cargo features that docs/options.md names
	@scripts/features.sh

deny: ## Check licences, bans and advisories of all crates (installs cargo-deny)
	@$$(scripts/tools.sh cargo-deny) check

strip-example: ## Take the example out, for good: src/shop and all that is about it
	@DOCS="$(DOCS)" exec scripts/strip-example.sh

prr: ## What keeps this from production: what is still the template's, unset or untried; STRICT=1, JSON=1
	@STRICT="$(STRICT)" JSON="$(JSON)" exec scripts/prr.sh

# Some systems have a NAME in the environment; it is not meant.
rename: ## Give the project another name: NAME=your-service TITLE="Your Service" DESCRIPTION="…" REPOSITORY=https://…
	@exec $(if $(filter environment,$(origin NAME)),env -u NAME) scripts/rename.sh

clones: ## Prove on fresh copies what a user does first with this tree; PROOF=rename for one
	@exec scripts/clones.sh $(PROOF)

clean-local: ## Throw away the data and packages under .local/
	@scripts/services.sh down run; scripts/services.sh down test; rm -rf .local
