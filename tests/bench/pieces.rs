//! What each piece of the observing layer costs: micro-benchmarks, run by `make bench-pieces`.

use std::{collections::BTreeMap, hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keel::{
    labels,
    platform::{
        http::{observe::Observe, overload::Gate},
        telemetry::{
            Options, Telemetry,
            metrics::{HTTP_SECONDS, Histogram, Registry, tenants::TenantLabels},
            redact::{is_secret_key, scrub},
            traces::SpanSink,
        },
    },
};
use opentelemetry::{
    KeyValue,
    trace::{Span as _, SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState, Tracer as _},
};
use tower::{Layer as _, ServiceExt as _};

labels! {
    pub struct Route { http_route: String = "_OTHER".to_owned(), status: u16 = 0 }
}

/// The real telemetry with a log that goes nowhere; spans are recorded and dropped.
fn telemetry(config: &keel::config::Config) -> Telemetry {
    Telemetry::init(Options {
        service: "bench",
        environment: config.environment,
        log: &config.log,
        sentry: &config.sentry,
        variables: &BTreeMap::new(),
        log_sink: Box::new(std::io::sink()),
        span_sink: SpanSink::Nowhere,
    })
    .expect("the configuration of the tests is valid")
}

fn sampled() -> SpanContext {
    SpanContext::new(TraceId::from(7), SpanId::from(7), TraceFlags::SAMPLED, false, TraceState::NONE)
}

fn pieces(criterion: &mut Criterion) {
    let variables = [("APP_ENVIRONMENT".to_owned(), "test".to_owned())].into();
    let sources = keel::platform::config::Sources { variables, built_in: keel::config::FILES, directory: None };
    let config = keel::config::load(&sources).readable().expect("the files of the tree are valid");
    let telemetry = telemetry(&config);
    let registry = Registry::default();

    let histogram: Histogram<Route> = registry.histogram("bench_seconds", "Bench.", HTTP_SECONDS, 10_000);
    let route = Route { http_route: "/v1/products/{product_id}".to_owned(), status: 200 };
    let (handle, span) = (histogram.with(&route), sampled());
    criterion
        .bench_function("histogram, resolved, with exemplar", |b| b.iter(|| handle.observe_in(black_box(0.02), &span)));
    criterion.bench_function("histogram, by labels, with exemplar", |b| {
        b.iter(|| histogram.with(black_box(&route)).observe_in(0.02, &span));
    });

    criterion.bench_function("log line of 14 fields", |b| {
        b.iter(|| {
            tracing::info!(
                status = 200_u16,
                outcome = "success",
                duration_ms = black_box(1.234_f64),
                db_queries = 1_u64,
                db_ms = 0.8_f64,
                db_pool_wait_ms = 0.001_f64,
                redis_ops = 1_u64,
                redis_ms = 0.2_f64,
                request_bytes = 0_u64,
                response_bytes = 312_u64,
                error_code = None::<&str>,
                cold_start = None::<bool>,
                "request_completed"
            );
        });
    });

    criterion.bench_function("client span of 8 attributes", |b| {
        b.iter(|| {
            let builder = telemetry.tracer.span_builder("SELECT products").with_kind(SpanKind::Client);
            let attributes = [
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.namespace", "keel"),
                KeyValue::new("db.query.summary", "SELECT products"),
                KeyValue::new("db.query.text", "select id from products where tenant_id = $1 and id = $2"),
                KeyValue::new("db.operation.name", "SELECT"),
                KeyValue::new("db.collection.name", "products"),
                KeyValue::new("server.address", "127.0.0.1"),
                KeyValue::new("server.port", 5432_i64),
            ];
            let mut span = builder.with_attributes(attributes).start(&telemetry.tracer);
            span.set_attribute(KeyValue::new("db.response.returned_rows", 1_i64));
            span.end();
        });
    });

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tenants = TenantLabels::new(&registry);
    let observe = Observe::new(&telemetry, &registry, &tenants, &config.http, &Gate::new(&config.http, &registry));
    let handler = tower::service_fn(async |_: axum::extract::Request| {
        Ok::<_, std::convert::Infallible>(axum::response::Response::new(axum::body::Body::empty()))
    });
    let observed = observe.layer(handler);
    let request =
        || axum::http::Request::builder().uri("/v1/products/1").body(axum::body::Body::empty()).expect("valid");
    criterion.bench_function("request, not observed", |b| {
        b.iter(|| runtime.block_on(handler.oneshot(request())));
    });
    criterion.bench_function("request, observed: span, metrics, line", |b| {
        b.iter(|| runtime.block_on(observed.clone().oneshot(request())));
    });

    let mut group = criterion.benchmark_group("redaction per KB");
    let prose =
        "The order was placed and the stock was moved, then the confirmation went out to the tenant. ".repeat(12);
    let line = r#"{"timestamp":"2026-11-21T03:04:05.678901Z","level":"INFO","message":"request_completed","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","request_id":"019aa000-0000-7000-8000-000000000000","route":"/v1/products/{product_id}","duration_ms":1.25,"tokens_used":512}"#.repeat(4);
    let secrets =
        "user ada@example.com logged in with password=hunter2hunter2 and went on to other things, ".repeat(12);
    for (name, text) in [("prose", &prose), ("log line", &line), ("text full of secrets", &secrets)] {
        let text = &text[..1_024];
        group.throughput(Throughput::Bytes(1_024));
        group.bench_function(name, |b| b.iter(|| scrub(black_box(text)).len()));
    }
    group.finish();
    criterion.bench_function("is a key secret", |b| b.iter(|| is_secret_key(black_box("db_pool_wait_ms"))));

    // 150 histograms of 17 samples each: the budget of 2,500 series.
    for n in 0..150 {
        histogram.with(&Route { http_route: format!("/v1/route/{n}"), status: 200 }).observe_in(0.02, &span);
    }
    criterion.bench_function("scrape of 2,500 series", |b| b.iter(|| registry.openmetrics().len()));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    targets = pieces
}
criterion_main!(benches);
