//! One statement, observed: a client span named by its summary, duration, rows, SQLSTATE and the
//! slow-query line. [`Traced`] is an sqlx executor, so stores write plain sqlx.

use std::{
    borrow::Cow,
    fmt,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use futures_core::{Stream, future::BoxFuture, stream::BoxStream};
use futures_util::StreamExt as _;
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_semantic_conventions::attribute as semconv;
use sqlx::{
    Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use super::{
    Inner, errors,
    metrics::{Operation, Summary},
    pool::Pool,
};
use crate::platform::telemetry::{context, off};

/// Longest text of a statement in a log line, in characters.
const SLOW_TEXT: usize = 200;

/// A connection on which every statement is observed under `summary` (`SELECT products`).
pub struct Traced<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) db: &'c Inner,
    pub(super) pool: &'c Pool,
    pub(super) summary: &'static str,
    /// Set while a statement is under way: a connection dropped then can't go back to the pool.
    pub(super) busy: &'c AtomicBool,
    /// Set by a failed statement: Postgres then takes COMMIT for ROLLBACK and says nothing.
    pub(super) failed: &'c AtomicBool,
}

impl fmt::Debug for Traced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").field("summary", &self.summary).finish_non_exhaustive()
    }
}

/// SQLSTATE, or a name for what is not the server's answer. Static: it becomes a metric label.
pub(super) fn error_type(error: &sqlx::Error) -> Cow<'static, str> {
    match error {
        sqlx::Error::Database(error) => {
            error.code().map_or(Cow::Borrowed("unknown"), |code| Cow::Owned(code.into_owned()))
        }
        sqlx::Error::PoolTimedOut => Cow::Borrowed("pool_timeout"),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Cow::Borrowed("io"),
        sqlx::Error::Protocol(_) => Cow::Borrowed("protocol"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Cow::Borrowed("decode"),
        _ => Cow::Borrowed("other"),
    }
}

/// Constraint violations are answers that stores expect and map; they are no failure of the span.
fn is_expected(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().is_some_and(|code| code.starts_with("23")))
}

fn is_read_only(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("25006"))
}

struct Measure<'c> {
    db: &'c Inner,
    pool: &'c Pool,
    summary: &'static str,
    sql: SqlStr,
    busy: &'c AtomicBool,
    failed: &'c AtomicBool,
    context: Context,
    started: Instant,
    rows: i64,
    finished: bool,
}

impl<'c> Measure<'c> {
    fn start(traced: &Traced<'c>, sql: SqlStr) -> Self {
        let Traced { db, pool, summary, busy, failed, .. } = *traced;
        busy.store(true, Relaxed);
        let context = span(db, summary, sql.as_str());
        Self { db, pool, summary, sql, busy, failed, context, started: Instant::now(), rows: 0, finished: false }
    }

    fn finish(&mut self, error: Option<&sqlx::Error>) {
        self.finished = true;
        match error {
            // `busy` stays set, so that it is closed: it is lost, or leads to a server that is no longer the
            // primary. Those that are as old are no better.
            Some(error) if errors::is_lost(error) => self.pool.stale(),
            Some(error) if is_read_only(error) => self.pool.read_only(),
            _ => {
                self.pool.answered();
                self.busy.store(false, Relaxed);
            }
        }
        if error.is_some() {
            self.failed.store(true, Relaxed);
        }
        let failure = error.filter(|error| !is_expected(error)).map(error_type);
        self.record(failure.as_deref(), error);
    }

    fn record(&self, failure: Option<&str>, error: Option<&sqlx::Error>) {
        let took = self.started.elapsed();
        let span = self.context.span();
        if let Some(code) =
            error.and_then(sqlx::Error::as_database_error).and_then(|error| error.code().map(Cow::into_owned))
        {
            span.set_attribute(KeyValue::new(semconv::DB_RESPONSE_STATUS_CODE, code));
        }
        span.set_attribute(KeyValue::new(semconv::DB_RESPONSE_RETURNED_ROWS, self.rows));
        if let Some(failure) = failure {
            span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, failure.to_owned()));
            span.set_status(Status::error(failure.to_owned()));
        }
        let labels = Operation {
            db_system_name: "postgresql",
            db_query_summary: self.summary,
            error_type: failure.map_or("", metric_error),
        };
        if !off::metrics() {
            self.db.metrics.operations.with(&labels).observe_in(took.as_secs_f64(), span.span_context());
        }
        context::with_current(|request| request.cost.add_query(self.summary, took));
        if took >= self.db.slow_query {
            self.db.metrics.slow.with(&Summary { db_query_summary: self.summary }).inc();
            let _inside = self.context.clone().attach();
            tracing::warn!(
                duration_ms = took.as_secs_f64() * 1_000.0,
                db_query_summary = self.summary,
                db_query_text = shown(self.sql.as_str()),
                rows = self.rows,
                "slow_query"
            );
        }
        span.end();
    }
}

/// A statement as a log line shows it: on one line, parameters as `$1`, cut.
fn shown(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SLOW_TEXT).collect()
}

/// The client span of a statement; none outside a trace, where it would only be noise.
fn span(db: &Inner, summary: &'static str, sql: &str) -> Context {
    let parent = Context::current();
    // Unsampled, a child would be too: nothing to build. Outside a trace there is no parent to be sampled.
    if !parent.span().is_recording() {
        return parent;
    }
    let (operation, collection) = summary.split_once(' ').unwrap_or((summary, ""));
    let mut attributes = vec![
        KeyValue::new(semconv::DB_SYSTEM_NAME, "postgresql"),
        KeyValue::new(semconv::DB_NAMESPACE, db.namespace.clone()),
        KeyValue::new(semconv::DB_QUERY_SUMMARY, summary),
        KeyValue::new(semconv::DB_QUERY_TEXT, sql.to_owned()),
        KeyValue::new(semconv::DB_OPERATION_NAME, operation),
        KeyValue::new(semconv::SERVER_ADDRESS, db.server_address.clone()),
        KeyValue::new(semconv::SERVER_PORT, db.server_port),
    ];
    if !collection.is_empty() {
        attributes.push(KeyValue::new(semconv::DB_COLLECTION_NAME, collection));
    }
    let tracer = &db.telemetry.tracer;
    let builder = tracer.span_builder(summary).with_kind(SpanKind::Client).with_attributes(attributes);
    parent.with_span(builder.start_with_context(tracer, &parent))
}

/// SQLSTATEs are many; a label takes the ones an operator acts on, and the class of the rest.
fn metric_error(code: &str) -> &'static str {
    match code {
        "57014" => "57014",
        "55P03" => "55P03",
        "40001" => "40001",
        "40P01" => "40P01",
        "25P02" => "25P02",
        "25006" => "25006",
        "53300" => "53300",
        "io" => "io",
        "pool_timeout" => "pool_timeout",
        "protocol" => "protocol",
        "decode" => "decode",
        "cancelled" => "cancelled",
        code if code.starts_with("57") => "57xxx",
        code if code.starts_with("42") => "42xxx",
        _ => "other",
    }
}

impl Drop for Measure<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // `busy` stays set: the answer may still be on its way.
            self.record(Some("cancelled"), None);
        }
    }
}

/// `Execute::sql` consumes the query, so it is taken apart first, in the driver's own order
/// (`persistent` of a mapped query changes once its arguments are taken).
struct Parts {
    sql: SqlStr,
    statement: Option<PgStatement>,
    arguments: Option<Result<Option<PgArguments>, BoxDynError>>,
    persistent: bool,
}

impl Parts {
    fn of<'q>(mut query: impl Execute<'q, Postgres>) -> Self {
        let statement = query.statement().cloned();
        let arguments = Some(query.take_arguments());
        let persistent = query.persistent();
        Self { sql: query.sql(), statement, arguments, persistent }
    }
}

impl Execute<'_, Postgres> for Parts {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.arguments.take().unwrap_or(Ok(None))
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

impl<'c> Executor<'c> for Traced<'c> {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, Q>(self, query: Q) -> BoxFuture<'e, Result<PgQueryResult, sqlx::Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Postgres>,
    {
        let parts = Parts::of(query);
        Box::pin(async move {
            super::pool::in_deadline()?;
            let mut measure = Measure::start(&self, parts.sql.clone());
            let result = self.pool.in_time(self.connection.execute(parts)).await;
            measure.rows = result.as_ref().map_or(0, |done| done.rows_affected().cast_signed());
            measure.finish(result.as_ref().err());
            result
        })
    }

    fn fetch_many<'e, 'q: 'e, Q>(self, query: Q) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Postgres>,
    {
        let parts = Parts::of(query);
        if let Err(over) = super::pool::in_deadline() {
            return Box::pin(futures_util::stream::once(std::future::ready(Err(over))));
        }
        let measure = Measure::start(&self, parts.sql.clone());
        let limit = Box::pin(tokio::time::sleep(self.pool.longest_statement()));
        Box::pin(Rows { rows: self.connection.fetch_many(parts), measure, limit })
    }

    fn fetch_optional<'e, 'q: 'e, Q>(self, query: Q) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Postgres>,
    {
        let parts = Parts::of(query);
        Box::pin(async move {
            super::pool::in_deadline()?;
            let mut measure = Measure::start(&self, parts.sql.clone());
            let result = self.pool.in_time(self.connection.fetch_optional(parts)).await;
            measure.rows = i64::from(matches!(result, Ok(Some(_))));
            measure.finish(result.as_ref().err());
            result
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection.describe(sql)
    }
}

/// Counts rows as they come, and finishes the measure at the end of the stream.
struct Rows<'e> {
    rows: BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>,
    measure: Measure<'e>,
    limit: Pin<Box<tokio::time::Sleep>>,
}

impl Stream for Rows<'_> {
    type Item = Result<Either<PgQueryResult, PgRow>, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let next = match this.rows.poll_next_unpin(cx) {
            Poll::Ready(next) => next,
            Poll::Pending if !this.measure.finished && this.limit.as_mut().poll(cx).is_ready() => {
                Some(Err(errors::silent()))
            }
            Poll::Pending => return Poll::Pending,
        };
        match &next {
            Some(Ok(Either::Right(_))) => this.measure.rows += 1,
            Some(Ok(Either::Left(_))) => {}
            Some(Err(error)) => this.measure.finish(Some(error)),
            None if !this.measure.finished => this.measure.finish(None),
            None => {}
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_statement_is_shown_on_one_line_and_cut_at_200_characters() {
        assert_eq!(super::shown("select 1\n   from t\n  where ä = $1"), "select 1 from t where ä = $1");
        assert_eq!(super::shown(&"ä".repeat(500)).chars().count(), 200);
    }
}
