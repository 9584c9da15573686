//! The commands. Exit codes: 0 clean, 1 failure, 2 usage, 3 drain deadline overrun, 78 bad
//! configuration (EX_CONFIG of sysexits.h).

mod doctor;
mod inspect;
mod jobs;
mod serve;
mod shop;
mod tenants;

use std::{collections::BTreeMap, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    config::{self, Config, Loaded},
    platform::{
        config::{Faults, Sources},
        db::{self, Db, migrations},
        telemetry::{Options, Telemetry, logs::LogConfig, metrics::Registry, sentry::SentryConfig, traces::SpanSink},
    },
    shop::catalogue as own,
};

/// The service, its migrations and its tools.
#[derive(Parser)]
#[command(version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default): public and admin listener, until SIGTERM or SIGINT
    Serve,
    /// Apply missing migrations as the owner (DATABASE_MIGRATION_URL)
    Migrate,
    /// Wait until the database has every migration this binary needs
    WaitForSchema {
        /// Give up (exit 1) after this many seconds
        #[arg(long, default_value_t = 300)]
        timeout: u64,
    },
    /// Look at everything the service depends on, say what is wrong and how to mend it (exit 1 if it would not work)
    Doctor(doctor::Options),
    /// Ask this machine's admin listener (if that is off, the public one) whether the service is alive: for images without a shell
    Healthcheck,
    /// Show, check or explain the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the OpenAPI document
    Openapi,
    /// Print every metric as JSON
    Catalogue {
        /// As the page docs/telemetry.md
        #[arg(long)]
        markdown: bool,
    },
    /// Create and list tenants
    #[command(subcommand)]
    Tenant(tenants::TenantCommand),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    ApiKey(tenants::KeyCommand),
    /// List dead letters and give them another chance
    #[command(subcommand)]
    Job(jobs::JobCommand),
    #[command(flatten)]
    Shop(shop::ShopCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print every value and where it comes from; secrets masked
    Show,
    /// Report everything that is wrong (exit 78) or nothing (exit 0)
    Check,
    /// Print the reference of all keys as Markdown
    Reference,
}

/// Why a command failed.
enum Failure {
    Config(Faults),
    /// In words, for a person.
    Message(String),
    DrainOverrun,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Config(faults)
    }
}

impl From<crate::platform::error::Error> for Failure {
    fn from(error: crate::platform::error::Error) -> Self {
        Self::Message(format!("{} ({})", error.message, error.chain()))
    }
}

/// Parses the arguments, runs the command, says what went wrong.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let failure = match dispatch(arguments.command.unwrap_or(Command::Serve)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    match failure {
        Failure::Config(faults) => {
            eprintln!("{faults}");
            ExitCode::from(78)
        }
        Failure::Message(message) => {
            eprintln!("{}: {message}", env!("CARGO_PKG_NAME"));
            ExitCode::from(1)
        }
        Failure::DrainOverrun => ExitCode::from(3),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    // One TLS provider, chosen before any client is built: redis panics if it has to choose.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sources = Sources::from_process(config::FILES);
    let loaded = config::load(&sources);
    match command {
        Command::Serve => serve::serve(&loaded.servable()?, &sources),
        Command::Doctor(options) => doctor::doctor(&loaded.servable()?, &sources, &options),
        Command::Config(command) => inspect::config(&command, loaded),
        Command::Openapi => {
            print(&crate::platform::http::docs::text(&crate::app::openapi()));
            Ok(())
        }
        Command::Catalogue { markdown } => {
            inspect::catalogue(markdown, &inspect::Own { spans: own::SPANS, events: own::EVENTS })
        }
        Command::Healthcheck => {
            let config = loaded.readable()?;
            let admin = Some(("admin", config.admin.bind)).filter(|_| config.admin.enabled);
            inspect::healthcheck(admin.unwrap_or(("public", config.http.bind)))
        }
        Command::Migrate => {
            let config = loaded.readable()?;
            let _telemetry = quiet_telemetry(&config)?;
            let applied = block_on(migrations::run(&config.database))?.map_err(|error| format!("migrate: {error}"))?;
            println!("{applied} migration(s) applied");
            Ok(())
        }
        Command::WaitForSchema { timeout } => {
            with_db(loaded, async |db| inspect::wait_for_schema(&db, std::time::Duration::from_secs(timeout)).await)
        }
        Command::Tenant(command) => {
            let pepper = loaded.config.auth.pepper.clone();
            let allow_private = loaded.config.outbound.allow_private;
            with_db(loaded, async |db| tenants::tenant(&db, pepper, allow_private, command).await)
        }
        Command::Job(command) => with_db(loaded, async |db| jobs::job(&db, &command).await),
        Command::Shop(command) => shop::run(&command, &loaded.readable()?, &sources),
        Command::ApiKey(command) => {
            let pepper = loaded.config.auth.pepper.clone();
            with_db(loaded, async |db| tenants::key(&db, pepper, command).await)
        }
    }
}

/// Prints and does not mind that the reader is gone (`| head`).
fn print(text: &str) {
    use std::io::Write as _;
    let _reader_gone = std::io::stdout().write_all(text.as_bytes());
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime can't be started: {error}"))?;
    let result = runtime.block_on(work);
    // A look-up of a name that hangs in its thread must not hold the exit.
    runtime.shutdown_background();
    Ok(result)
}

/// Warnings on standard error and no spans: a tool's output is its standard output.
fn quiet_telemetry(config: &Config) -> Result<Telemetry, Failure> {
    let log =
        LogConfig { filter: concat!("warn,", env!("CARGO_CRATE_NAME"), "=info").to_owned(), ..config.log.clone() };
    let options = Options {
        service: &config.service.name,
        environment: config.environment,
        log: &log,
        sentry: &SentryConfig { dsn: None },
        variables: &BTreeMap::new(),
        log_sink: Box::new(std::io::stderr()),
        span_sink: SpanSink::Nowhere,
    };
    Ok(Telemetry::init(options)?)
}

/// Runs a tool with a database, as `serve` would reach it.
fn with_db<F>(loaded: Loaded, work: impl FnOnce(Db) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let config = loaded.readable()?;
    let mut faults = Faults::default();
    config.database.check(&mut faults);
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let telemetry = quiet_telemetry(&config)?;
    let result = block_on(async {
        let registry = Registry::default();
        let operations = db::metrics::operations(&registry);
        let db = Db::build(&config.database, &telemetry, &registry, operations)?;
        work(db).await
    })?;
    telemetry.shutdown(std::time::Duration::from_secs(1));
    result
}
