//! Commands that only look: configuration, catalogue, health, schema.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{ConfigCommand, Failure, block_on, print, quiet_telemetry};
use crate::{
    app::App,
    config::{DECLARED, FILES, Loaded, load},
    platform::{
        config::{Sources, report},
        db::{Db, migrations},
        telemetry::attribute,
    },
};

pub fn config(command: &ConfigCommand, loaded: Loaded) -> Result<(), Failure> {
    match command {
        ConfigCommand::Reference => print(&report::reference(&loaded.merged, DECLARED)),
        ConfigCommand::Show => {
            print(&format!(
                "# environment: {}\n{}",
                loaded.config.environment.as_str(),
                report::show(&loaded.merged, DECLARED)
            ));
            loaded.readable()?;
        }
        ConfigCommand::Check => {
            loaded.servable()?;
            println!("the configuration is valid");
        }
    }
    Ok(())
}

/// Every metric of the running service, without running it.
pub fn catalogue() -> Result<(), Failure> {
    let variables = [
        ("APP_ENVIRONMENT", "test"),
        ("DATABASE_URL", "postgres://catalogue@localhost/catalogue"),
        ("DATABASE_SYSTEM_URL", "postgres://catalogue@localhost/catalogue"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = load(&Sources { directory: None, variables, built_in: FILES }).servable()?;
    let telemetry = quiet_telemetry(&config)?;
    let definitions = block_on(async {
        let app = App::build(&config, &telemetry)?;
        app.service().map(|_| app.registry.definitions())
    })??;
    let text =
        serde_json::to_string_pretty(&json!({"metrics": definitions, "searchable_attributes": attribute::SEARCHABLE}));
    print(&(text.expect("plain data") + "\n"));
    Ok(())
}

/// One `GET /health/live`, by hand: an HTTP client would be a second of start-up for one line.
pub fn healthcheck(admin: SocketAddr) -> Result<(), Failure> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let ip = if admin.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { admin.ip() };
    let address = SocketAddr::new(ip, admin.port());
    let mut answer = [0; 12];
    let mut ask = || {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        stream.read_exact(&mut answer)
    };
    ask().map_err(|error| format!("the admin listener on {address} does not answer: {error}"))?;
    if &answer == b"HTTP/1.1 200" {
        println!("alive");
        Ok(())
    } else {
        Err(Failure::Message(format!("the admin listener on {address} answered {}", String::from_utf8_lossy(&answer))))
    }
}

pub async fn wait_for_schema(db: &Db, timeout: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        let why = match migrations::missing(db).await {
            Ok(missing) if missing.is_empty() => {
                println!("the schema is complete");
                return Ok(());
            }
            Ok(missing) => format!("missing migrations: {missing:?}"),
            Err(error) => format!("the database does not answer: {error}"),
        };
        if Instant::now() >= deadline {
            return Err(Failure::Message(format!("gave up after {} s: {why}", timeout.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
