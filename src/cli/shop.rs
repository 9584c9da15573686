//! `keel payment-sandbox`: the second process of the example. Gone with it.

use clap::Subcommand;

use super::{Failure, serve::Signals};
use crate::{
    config::Config,
    platform::{
        config::{Environment, Sources},
        telemetry::{Options, Telemetry, sentry::SentryConfig, traces::SpanSink},
    },
    shop::sandbox,
};

#[derive(Subcommand)]
pub enum ShopCommand {
    /// Run the payment provider of development and tests; production refuses it
    PaymentSandbox,
}

pub fn run(command: &ShopCommand, config: &Config, sources: &Sources) -> Result<(), Failure> {
    match command {
        ShopCommand::PaymentSandbox => payment_sandbox(config, sources),
    }
}

/// The same telemetry and server as the service, none of the rest.
fn payment_sandbox(config: &Config, sources: &Sources) -> Result<(), Failure> {
    if config.environment == Environment::Production {
        return Err(Failure::Message("payment-sandbox: takes no real money; production refuses it".to_owned()));
    }
    let telemetry = Telemetry::init(Options {
        service: "payment-sandbox",
        environment: config.environment,
        log: &config.log,
        // Its failures are its purpose.
        sentry: &SentryConfig { dsn: None },
        // A name given to the service is not the sandbox's.
        variables: &sources.variables.clone().into_iter().filter(|(name, _)| name != "OTEL_SERVICE_NAME").collect(),
        log_sink: Box::new(std::io::stdout()),
        span_sink: SpanSink::Environment,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime can't be started: {error}"))?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let sandbox = sandbox::start(&config.shop.sandbox, &config.http, &telemetry).await?;
        signals.next().await;
        sandbox.stop().await;
        Ok(())
    });
    telemetry.shutdown(config.lifecycle.flush_timeout);
    result
}
