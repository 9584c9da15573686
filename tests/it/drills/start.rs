//! How a drill's stack is put together: the processes, who is whose neighbour, and what the runbooks' shell is told.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{
    control,
    file::Settings,
    part::Part,
    scale,
    shell::Shell,
    site::{INSTANCES, Shared, Site},
    traffic::Floods,
};
use crate::support::{
    client::Client,
    harness::proxy::Proxy,
    process::{run, text},
    services,
    stack::{
        ENVIRONMENT,
        daemon::{address, program},
    },
};

pub const DATABASE: &str = "keel";
/// Those of the steady traffic.
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// What only a cluster can show.
const NOT_DRILLED: &str = "cluster";
const BINARY: &str = env!("CARGO_BIN_EXE_keel");

/// As a user's own machine, with waits that fit into seconds.
fn usual(settings: &Settings) -> BTreeMap<String, String> {
    let mut variables = services::settings(DATABASE);
    let fixed = [
        ("APP_ENVIRONMENT", ENVIRONMENT),
        ("APP__LOG__FORMAT", "json"),
        ("APP__AUTH__PEPPER", "drill-only-pepper-of-more-than-32-characters"),
        ("APP__AUTH__KEY_CACHE_TTL", "1s"),
        // All drills come from one address, one after the other.
        ("APP__AUTH__FAILURES_PER_MINUTE", "100000"),
        ("APP__ADMIN__TOKEN", "drill-only-token-of-more-than-32-characters"),
        ("APP__FAULTS__ENABLED", "true"),
        // A busy machine is no fault of Redis.
        ("APP__REDIS__OPERATION_TIMEOUT", "500ms"),
        ("APP__RATE_LIMIT__INSTANCES", "2"),
        ("APP__LIFECYCLE__DRAIN_DELAY", "500ms"),
        ("APP__JOBS__BACKOFF", "100ms"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    variables.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
    variables.insert("APP__REDIS__KEY_PREFIX".to_owned(), format!("drill-{}", uuid::Uuid::now_v7()));
    variables.extend(settings.settings.clone());
    variables
}

/// Postgres and Redis, whatever the drill before did to them.
fn servers() {
    let (program, lane) = (services::variable("KEEL_DRILL_SERVICES"), services::variable("KEEL_DRILL_LANE"));
    let lane = Path::new(&lane).file_name().unwrap().to_owned();
    for name in ["postgres", "redis"] {
        assert!(Command::new(&program).arg("start").arg(&lane).arg(name).status().unwrap().success(), "{name}");
    }
}

/// The database as a new one.
async fn database(variables: &BTreeMap<String, String>) {
    let mut admin = services::admin().await;
    let owner =
        sqlx::postgres::PgConnectOptions::get_username(&services::variable("DATABASE_MIGRATION_URL").parse().unwrap())
            .to_owned();
    for statement in [
        format!("drop database if exists {DATABASE} with (force)"),
        format!("create database {DATABASE} template template0 encoding 'UTF8' owner {owner}"),
    ] {
        admin.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    let url = services::with_database(&services::variable("TEST_ADMIN_DATABASE_URL"), DATABASE);
    let mut inside = PgConnection::connect(&url).await.unwrap();
    let _not_every_server_has_it = inside.execute("create extension if not exists pg_stat_statements").await;
    let migrated = run(&["migrate"], variables);
    assert!(migrated.status.success(), "{}{}", text(&migrated.stdout), text(&migrated.stderr));
}

fn socket(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once("://").unwrap();
    let authority = rest.split(['/', '?']).next().unwrap();
    authority.rsplit('@').next().unwrap().parse().unwrap_or_else(|error| panic!("{authority}: {error}"))
}

fn prometheus_config(
    jobs: &[(&str, Vec<SocketAddr>)],
    rules: &[std::path::PathBuf],
    alertmanager: SocketAddr,
) -> Value {
    let scrape = |(name, targets): &(&str, Vec<SocketAddr>)| {
        let targets = json!([{"targets": targets, "labels": {"environment": ENVIRONMENT}}]);
        // An exporter that can't reach its server takes seconds to say so. All that rules ask of it are gauges.
        let pause = if ["postgres", "redis"].contains(name) { "5s" } else { "1s" };
        json!({
            "job_name": name, "honor_labels": false, "static_configs": targets,
            "scrape_interval": pause, "scrape_timeout": pause,
        })
    };
    json!({
        "global": {
            "evaluation_interval": "1s",
            "external_labels": {"grafana_url": "http://127.0.0.1:3000"},
        },
        "rule_files": rules,
        "alerting": {
            "alert_relabel_configs": [{"action": "labeldrop", "regex": "grafana_url"}],
            "alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}],
        },
        "scrape_configs": jobs.iter().map(scrape).collect::<Vec<_>>(),
    })
}

fn yaml(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Starts all of it, for a drill that wants these settings; drills, rules and runbooks are those of `root`.
pub async fn start(root: &Path, settings: &Settings) -> Result<Shared, String> {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_owned();
    let mut variables = usual(settings);
    servers();
    database(&variables).await;
    let (listener, control) = control::bind().await;
    let (mut parts, mut answers, mut proxies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut add = |name: &'static str, part: Part, url: String| {
        parts.insert(name, part);
        answers.insert(name, url);
    };
    let mut cli = variables.clone();
    // A command may wait longer on a busy machine than a request.
    cli.insert("APP__DATABASE__ACQUIRE_TIMEOUT".to_owned(), "4s".to_owned());

    let collector = address();
    add(
        "collector",
        Part::new("collector", &here, move || super::collector(collector)),
        format!("http://{collector}/"),
    );
    super::shop::sandbox(&mut add, &mut proxies, &mut variables, &here).await;
    for (name, upstream) in [
        ("collector", collector),
        // Whom the service calls for a fault; any that answers will do.
        ("dependency", collector),
        ("postgres", socket(&variables["DATABASE_URL"])),
        ("redis", socket(&variables["REDIS_URL"])),
    ] {
        proxies.insert(name, vec![Proxy::start(upstream).await]);
    }
    variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://{}", proxies["collector"][0].address));
    for name in ["DATABASE_URL", "DATABASE_SYSTEM_URL"] {
        variables.insert(name.to_owned(), proxies["postgres"][0].url(&variables[name]));
    }
    variables.insert("REDIS_URL".to_owned(), proxies["redis"][0].url(&variables["REDIS_URL"]));
    variables.remove("DATABASE_MIGRATION_URL");
    // What a drill sets wins.
    variables.extend(settings.settings.clone());

    let (mut public, mut admin, mut doors) = (Vec::new(), Vec::new(), Vec::new());
    for name in INSTANCES {
        let (door, scraped) = (address(), address());
        let mut variables = variables.clone();
        variables.insert("APP__HTTP__BIND".to_owned(), door.to_string());
        variables.insert("APP__ADMIN__BIND".to_owned(), scraped.to_string());
        let command = move || {
            let mut command = Command::new(BINARY);
            command.arg("serve").env_clear().envs(&variables);
            command
        };
        add(name, Part::new(name, &here, command).with_reader(), format!("http://{scraped}/health/live"));
        doors.push(Proxy::start(door).await);
        public.push(door);
        admin.push(scraped);
    }
    let clients: Vec<Client> = doors.iter().map(|door| Client::new(format!("http://{}", door.address))).collect();
    let ways_in: Vec<SocketAddr> = doors.iter().map(|door| door.address).collect();
    proxies.insert("public", doors);

    let (postgres_exporter, redis_exporter) = (address(), address());
    let admin_url = services::variable("TEST_ADMIN_DATABASE_URL");
    let source = format!("{admin_url}?sslmode=disable&application_name=exporter");
    let command = move || {
        let mut command = program("POSTGRES_EXPORTER");
        command.env("DATA_SOURCE_NAME", &source).arg("--log.level=warn");
        command.arg(format!("--web.listen-address={postgres_exporter}"));
        command
    };
    add("postgres-exporter", Part::new("postgres-exporter", &here, command), format!("http://{postgres_exporter}/"));
    let redis = cli["REDIS_URL"].clone();
    let command = move || {
        let mut command = program("REDIS_EXPORTER");
        command.env("REDIS_ADDR", &redis).arg(format!("-web.listen-address={redis_exporter}"));
        command
    };
    add("redis-exporter", Part::new("redis-exporter", &here, command), format!("http://{redis_exporter}/"));

    let (prometheus, alertmanager) = (address(), address());
    let mut rules = Vec::new();
    for entry in std::fs::read_dir(root.join("deploy/prometheus/rules")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name != NOT_DRILLED {
            let scaled = here.join(format!("rules-{name}.json"));
            std::fs::write(&scaled, scale::rules(yaml(&path)).to_string()).unwrap();
            rules.push(scaled);
        }
    }
    let jobs = [
        ("keel", admin.clone()),
        ("postgres", vec![postgres_exporter]),
        ("redis", vec![redis_exporter]),
        ("otel-collector", vec![collector]),
        ("prometheus", vec![prometheus]),
        ("alertmanager", vec![alertmanager]),
    ];
    std::fs::write(here.join("prometheus.json"), prometheus_config(&jobs, &rules, alertmanager).to_string()).unwrap();
    let config = yaml(&root.join("deploy/alertmanager/alertmanager.yaml"));
    let config = scale::alertmanager(config, &format!("http://{control}/webhook"));
    std::fs::write(here.join("alertmanager.json"), config.to_string()).unwrap();
    let data = ["prometheus", "alertmanager"].map(|name| here.join(format!("{name}-data"))).to_vec();
    let (place, store) = (here.clone(), data[0].clone());
    let command = move || {
        let mut command = program("PROMETHEUS");
        command
            .arg(format!("--config.file={}", place.join("prometheus.json").display()))
            .arg(format!("--storage.tsdb.path={}", store.display()))
            .arg(format!("--web.listen-address={prometheus}"))
            .args(["--rules.alert.resend-delay=1s", "--log.level=warn"]);
        command
    };
    add("prometheus", Part::new("prometheus", &here, command), format!("http://{prometheus}/-/ready"));
    let (place, store) = (here.clone(), data[1].clone());
    let command = move || {
        let mut command = program("ALERTMANAGER");
        command
            .arg(format!("--config.file={}", place.join("alertmanager.json").display()))
            .arg(format!("--storage.path={}", store.display()))
            .arg(format!("--web.listen-address={alertmanager}"))
            .args(["--cluster.listen-address=", "--log.level=warn"]);
        command
    };
    add("alertmanager", Part::new("alertmanager", &here, command), format!("http://{alertmanager}/-/ready"));

    let keys = TENANTS.iter().map(|tenant| new_key(&cli, tenant)).collect();
    let facts = super::surroundings::Facts {
        root,
        here: &here,
        control,
        alertmanager,
        public: &ways_in,
        direct: &public,
        admin: &admin,
        dependency: proxies["dependency"][0].address,
        cli: &cli,
    };
    let shell =
        Shell { root: root.to_owned(), variables: super::surroundings::variables(&facts), directory: here.clone() };
    let site = Arc::new(Site {
        settings: settings.clone(),
        parts: Mutex::new(parts),
        answers,
        proxies,
        inbox: control::inbox(),
        floods: Floods::new(clients),
        keys,
        shell,
        prometheus: Client::new(format!("http://{prometheus}")),
        alertmanager: Client::new(format!("http://{alertmanager}")),
        targets: jobs.iter().map(|(_, targets)| targets.len()).sum(),
        data,
        lane: services::variable("KEEL_DRILL_LANE").into(),
        control: Mutex::new(None),
        directory,
    });
    *site.control.lock() = Some(control::serve(listener, Arc::downgrade(&site)));
    let names: Vec<&str> = site.answers.keys().copied().collect();
    for name in names {
        site.start_part(name).await?;
    }
    Ok(site)
}

fn new_key(variables: &BTreeMap<String, String>, tenant: &str) -> String {
    let run = |arguments: &[&str]| {
        let output = run(arguments, variables);
        assert!(output.status.success(), "keel {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().last().unwrap_or_default().trim().to_owned()
    };
    run(&["tenant", "create", tenant, "--if-not-exists"]);
    run(&["api-key", "create", "--tenant", tenant, "--scope", "write", "--name", "traffic"])
}
