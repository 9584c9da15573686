//! Every `OTEL_*` variable of the table, tried: what it says must be seen at the collector. The last
//! test fails when the table has a row that nothing here sets.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use keel::platform::{
    config::Environment,
    telemetry::{
        otlp::{Counts, Settings, variables::VARIABLES},
        propagation::Propagators,
        traces::{SpanSink, provider, resource},
    },
};
use opentelemetry::{
    KeyValue,
    trace::{
        Link, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
        TracerProvider as _,
    },
};

use crate::support::{
    collector::{Collector, Options, SeenSpan, Tls},
    eventually,
    process::{Service, run, settings, text},
    sentry_server::Behaviour,
    services,
};

fn map(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn parse(variables: &[(&str, &str)]) -> Settings {
    Settings::parse(&map(variables)).unwrap()
}

fn fault(variables: &[(&str, &str)]) -> String {
    Settings::parse(&map(variables)).unwrap_err().join("; ")
}

fn parent(number: u128, sampled: bool) -> SpanContext {
    let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    SpanContext::new(TraceId::from(number), SpanId::from(7), flags, true, TraceState::NONE)
}

/// Ends `count` spans under these variables and closes the provider, off the runtime; whether all left in time.
async fn export(variables: &[(&str, &str)], count: u128) -> (bool, Arc<Counts>) {
    let settings = parse(variables);
    tokio::task::spawn_blocking(move || {
        let counts = Arc::new(Counts::default());
        let resource = resource("tried", Environment::Test, &settings);
        let (provider, batcher) = provider(resource, &settings, SpanSink::Environment, None, &counts).unwrap();
        let tracer = provider.tracer("test");
        for number in 1..=count {
            let links =
                (1..=3).map(|n| Link::new(parent(n, true), vec![KeyValue::new("a", 1), KeyValue::new("b", 2)], 0));
            let builder = tracer.span_builder("tried").with_links(links.collect()).with_attributes([
                KeyValue::new("text", "ä".repeat(20)),
                KeyValue::new("number", i64::try_from(number).unwrap()),
                KeyValue::new("db.query.text", "select 1 from a_table_with_a_name"),
            ]);
            let mut span = builder.start_with_context(&tracer, &opentelemetry::Context::new());
            for event in ["first", "second", "third"] {
                opentelemetry::trace::Span::add_event(
                    &mut span,
                    event,
                    vec![KeyValue::new("a", 1), KeyValue::new("b", 2)],
                );
            }
        }
        let closed = batcher.is_none_or(|batcher| batcher.close(Duration::from_secs(5)));
        (closed, counts)
    })
    .await
    .unwrap()
}

/// One span, as it arrives over a plain collector.
async fn seen(variables: &[(&str, &str)]) -> Option<SeenSpan> {
    let collector = Collector::start();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    export(&[&[endpoint], variables].concat(), 1).await;
    assert!(collector.faults().is_empty(), "{:?}", collector.faults());
    collector.all().pop()
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_and_names() {
    assert!(seen(&[]).await.is_some());
    assert!(seen(&[("OTEL_SDK_DISABLED", "TRUE")]).await.is_none());
    assert!(seen(&[("OTEL_TRACES_EXPORTER", "none")]).await.is_none());
    assert!(
        parse(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")]).logs.destination.is_none(),
        "off unless asked for"
    );
    let span = seen(&[("OTEL_RESOURCE_ATTRIBUTES", "a=b%2Cc,service.name=other,service.version=9")]).await.unwrap();
    assert_eq!(span.resource("a").as_deref(), Some("b,c"), "percent-decoded");
    assert_eq!(span.resource("service.version").as_deref(), Some("9"), "wins over what the build says");
    assert_eq!(span.resource("service.name").as_deref(), Some("tried"));
    let name = |variables: &[(&str, &str)]| Settings::service_name(&map(variables));
    assert_eq!(name(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=r")]).as_deref(), Some("r"));
    assert_eq!(name(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=r"), ("OTEL_SERVICE_NAME", "n")]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn samplers() {
    let sampled = async |sampler: &str, argument: &str, count: u128| {
        let collector = Collector::start();
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_TRACES_SAMPLER_ARG", argument),
        ];
        export(&variables, count).await;
        collector.spans_received()
    };
    for (sampler, argument, least, most) in [
        ("always_on", "", 400, 400),
        ("always_off", "", 0, 0),
        ("traceidratio", "0.5", 100, 300),
        ("traceidratio", "0", 0, 0),
        ("parentbased_always_on", "", 400, 400),
        ("parentbased_always_off", "", 0, 0),
        ("parentbased_traceidratio", "0.5", 100, 300),
        ("ParentBased_TraceIdRatio", "1.0", 400, 400),
    ] {
        let seen = sampled(sampler, argument, 400).await;
        assert!((least..=most).contains(&seen), "{sampler} {argument}: {seen}");
    }
    let based = |sampler: &str, is_sampled: bool| {
        let settings = parse(&[("OTEL_TRACES_SAMPLER", sampler)]);
        let counts = Arc::default();
        let (provider, _) =
            provider(resource("x", Environment::Test, &settings), &settings, SpanSink::Nowhere, None, &counts).unwrap();
        let remote = opentelemetry::Context::new().with_remote_span_context(parent(5, is_sampled));
        let span = provider.tracer("test").start_with_context("x", &remote);
        opentelemetry::trace::Span::span_context(&span).is_sampled()
    };
    assert!(based("parentbased_always_off", true) && !based("parentbased_always_on", false), "the parent decides");
    assert!(based("always_on", false) && !based("always_off", true), "or it does not");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "otlp-grpc"), ignore = "needs `otlp-grpc`")]
async fn both_protocols_with_headers_gzip_and_paths() {
    for (protocol, grpc) in [("http/protobuf", false), ("grpc", true)] {
        let collector = Collector::start();
        let base = format!("{}/base/", collector.endpoint);
        let endpoint = if grpc { collector.endpoint.as_str() } else { base.as_str() };
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=a%20b,X-Other=1"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ];
        let (closed, counts) = export(&variables, 3).await;
        assert!(closed, "{protocol}");
        assert_eq!(counts.exported.load(std::sync::atomic::Ordering::Relaxed), 3);
        let request = collector.requests().pop().unwrap();
        assert_eq!((request.grpc, request.gzip, request.spans), (grpc, true, 3), "{protocol}");
        assert_eq!((request.http2, request.bytes > 0), (grpc, true), "{protocol}");
        assert!(collector.all().iter().all(|seen| seen.scope == "test"), "{protocol}");
        assert_eq!((&*request.headers["x-api-key"], &*request.headers["x-other"]), ("a b", "1"), "{protocol}");
        assert!(grpc || request.path == "/base/v1/traces", "{}", request.path);
        let own = format!("{}/just/here", collector.endpoint);
        if !grpc {
            let variables =
                [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &own)];
            export(&variables, 1).await;
            assert_eq!(
                collector.requests().pop().unwrap().path,
                "/just/here",
                "the signal's own is the address itself"
            );
        }
    }
    let bare = |insecure| {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_INSECURE", insecure),
        ];
        parse(&variables).traces.destination.unwrap().url
    };
    assert_eq!(
        (bare("true"), bare("false")),
        ("http://collector:4317".to_owned(), "https://collector:4317".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "otlp-grpc"), ignore = "needs `otlp-grpc`")]
async fn tls_with_a_private_authority_and_a_client_certificate() {
    for protocol in ["http/protobuf", "grpc"] {
        for client_ca in [false, true] {
            let collector = Collector::with(Options { tls: Some(Tls { client_ca }) });
            let files = collector.certificates();
            let plain = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ];
            let (_, counts) = export(&plain, 1).await;
            assert_eq!(counts.dropped()[1], ("export_failed", 1), "{protocol}: nobody vouches for it");
            let trusting = [&plain[..], &[("OTEL_EXPORTER_OTLP_CERTIFICATE", files.ca.as_str())]].concat();
            let (_, counts) = export(&trusting, 1).await;
            assert_eq!(counts.dropped()[1].1, u64::from(client_ca), "{protocol} {client_ca}");
            let known = [
                ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", files.client_certificate.as_str()),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", files.client_key.as_str()),
            ];
            let (closed, counts) = export(&[&trusting[..], &known].concat(), 1).await;
            assert!(closed);
            assert_eq!(counts.dropped().map(|(_, count)| count), [0; 3], "{protocol} {client_ca}");
            assert_eq!(collector.requests().pop().unwrap().client_certificate, client_ca);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_spans() {
    let span = seen(&[]).await.unwrap().span;
    assert_eq!((span.attributes.len(), span.events.len(), span.links.len()), (3, 3, 3));
    let few = [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "1"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "2"),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "1"),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "0"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1"),
    ];
    let seen_few = seen(&few).await.unwrap();
    let span = &seen_few.span;
    assert_eq!((span.attributes.len(), span.events.len(), span.links.len()), (2, 1, 2));
    assert_eq!((span.events[0].attributes.len(), span.links[0].attributes.len()), (1, 0));
    assert_eq!(seen_few.attribute("text").as_deref(), Some("ääää"), "characters, not bytes");
    let common =
        seen(&[("OTEL_ATTRIBUTE_COUNT_LIMIT", "1"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2")]).await.unwrap();
    assert_eq!((common.span.attributes.len(), common.attribute("text").as_deref()), (1, Some("ää")));
    let cut = seen(&[("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "6")]).await.unwrap();
    assert_eq!(cut.attribute("db.query.text").as_deref(), Some("select"), "SQL too");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_queues_and_timeouts() {
    let collector = Collector::start();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.as_str());
    export(&[endpoint, ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")], 35).await;
    let sizes: Vec<usize> = collector.requests().iter().map(|request| request.spans).collect();
    assert_eq!((sizes.iter().sum::<usize>(), sizes.iter().max()), (35, Some(&10)), "{sizes:?}");

    let silent = Collector::start();
    silent.set(Behaviour::Silent);
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", silent.endpoint.as_str());
    let (closed, counts) = export(&[endpoint, ("OTEL_BSP_EXPORT_TIMEOUT", "200")], 1).await;
    assert!(closed, "the batch is given up in time");
    assert!(silent.connections() > 0, "it was asked");
    assert_eq!(counts.dropped()[1], ("export_failed", 1));
    let (closed, counts) = export(&[endpoint, ("OTEL_EXPORTER_OTLP_TIMEOUT", "100")], 1).await;
    assert!(closed);
    assert_eq!(counts.dropped()[1], ("export_failed", 1));
    let (closed, counts) =
        export(&[endpoint, ("OTEL_BSP_MAX_QUEUE_SIZE", "20"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "30")], 50).await;
    assert!(!closed, "nothing ever leaves");
    let lost = counts.dropped().map(|(_, count)| count);
    assert_eq!((lost.iter().sum::<u64>(), lost[1]), (50, 0), "each is accounted for: {lost:?}");
    assert!(lost[2] >= 20, "what fits the queue waits to the end: {lost:?}");

    let limits = parse(&[
        ("OTEL_BSP_SCHEDULE_DELAY", "123"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "45"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "6"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "5"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "89"),
    ]);
    assert_eq!((limits.traces.limits.delay.as_millis(), limits.logs.limits.delay.as_millis()), (123, 45));
    assert_eq!(
        (limits.logs.limits.queue_items, limits.logs.limits.batch_items, limits.logs.limits.export_timeout.as_millis()),
        (6, 5, 89)
    );
}

#[test]
fn propagators_are_the_named_ones() {
    let headers = |variables: &[(&str, &str)]| {
        let propagators = Propagators::new(&parse(variables).propagators);
        let _inside = opentelemetry::Context::new().with_remote_span_context(parent(0xabc, true)).attach();
        let mut names: Vec<String> = propagators.inject().keys().map(ToString::to_string).collect();
        names.sort();
        (propagators, names)
    };
    assert_eq!(headers(&[]).1, ["traceparent", "tracestate"]);
    assert_eq!(headers(&[("OTEL_PROPAGATORS", "none")]).1, Vec::<String>::new());
    assert_eq!(headers(&[("OTEL_PROPAGATORS", "b3")]).1, ["b3"]);
    assert_eq!(headers(&[("OTEL_PROPAGATORS", "b3multi")]).1, ["x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]);
    assert_eq!(
        headers(&[("OTEL_PROPAGATORS", "xray, tracecontext")]).1,
        ["traceparent", "tracestate", "x-amzn-trace-id"]
    );
    for (format, name, value) in [
        ("b3", "b3", "00000000000000000000000000000abc-0000000000000007-1"),
        ("xray", "x-amzn-trace-id", "Root=1-00000000-000000000000000000000abc;Parent=0000000000000007;Sampled=1"),
        ("tracecontext", "traceparent", "00-00000000000000000000000000000abc-0000000000000007-01"),
    ] {
        let (propagators, _) = headers(&[("OTEL_PROPAGATORS", format)]);
        let mut inbound = axum::http::HeaderMap::new();
        inbound.insert(name, value.parse().unwrap());
        let context = propagators.extract(&inbound).unwrap_or_else(|| panic!("{format}"));
        assert_eq!(context.span().span_context().trace_id(), TraceId::from(0xabc));
        inbound.append(name, value.replace("abc", "abd").parse().unwrap());
        assert!(propagators.extract(&inbound).is_none(), "{format}: two parents are no parent");
        inbound.insert(name, "garbage".parse().unwrap());
        assert!(propagators.extract(&inbound).is_none(), "{format}");
    }
}

#[test]
fn what_cannot_be_used_is_said_all_at_once_and_no_header_is_repeated() {
    let bad = fault(&[
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_PROPAGATORS", "jaeger"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2-without-a-name"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ("OTEL_SDK_DISABLED", "maybe"),
    ]);
    for name in [
        "OTEL_TRACES_SAMPLER: expected parentbased_always_on or",
        "OTEL_TRACES_SAMPLER_ARG: expected a share from 0 to 1",
        "OTEL_PROPAGATORS: expected tracecontext, baggage, b3, b3multi, xray or none, got \"jaeger\"",
        "OTEL_BSP_MAX_QUEUE_SIZE: expected a whole number",
        "OTEL_EXPORTER_OTLP_TIMEOUT: expected a whole number",
        "OTEL_EXPORTER_OTLP_ENDPOINT: expected http://host:port",
        "OTEL_EXPORTER_OTLP_HEADERS: expected key=value",
        "OTEL_EXPORTER_OTLP_CERTIFICATE: can't read /nowhere.pem",
        "OTEL_RESOURCE_ATTRIBUTES: expected key=value",
        "OTEL_SDK_DISABLED: expected true or false",
    ] {
        assert!(bad.contains(name), "{name} in {bad}");
    }
    assert!(!bad.contains("hunter2"), "{bad}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "otlp-grpc"), ignore = "needs `otlp-grpc`")]
async fn the_built_binary_takes_them_from_its_environment_and_exports_its_logs() {
    let database = services::database().await;
    let collector = Collector::start();
    let mut variables = settings(&database);
    variables.extend(map(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=billing"),
        ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "4"),
        ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "30"),
    ]));
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    let answer = public.get(&format!("/v1/{}", "long".repeat(20)), "").await;
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    let span = &collector.trace(answer.header("x-trace-id"))[0];
    assert_eq!(span.resource("service.name").as_deref(), Some("billing"));
    let logs = collector.logs();
    let line = logs.iter().find(|log| log.body() == "request_completed").unwrap();
    assert_eq!((line.trace_id(), line.span_id()), (answer.header("x-trace-id").to_owned(), span.id()));
    assert_eq!(line.record.attributes.len(), 4);
    assert!(collector.requests().iter().map(|request| request.logs).sum::<usize>() >= logs.len());
    assert_eq!(line.attribute("request_id").unwrap().len(), 30, "36 characters, cut");
    assert_eq!(line.resource("service.name").as_deref(), Some("billing"));
    assert_eq!(service.lines()[0]["service"], "billing", "logs on standard output agree");
    services::drop_database(&database).await;

    let mut variables = settings("nowhere");
    variables.insert("OTEL_TRACES_SAMPLER".to_owned(), "sometimes".to_owned());
    let output = run(&["serve"], &variables);
    assert_eq!(output.status.code(), Some(78), "before any socket opens");
    assert!(text(&output.stderr).contains("OTEL_TRACES_SAMPLER: expected"), "{}", text(&output.stderr));
}

/// Log records by their own variables, in batches of one; spans that leave by the clock, not by the flush.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(feature = "otlp-grpc"), ignore = "needs `otlp-grpc`")]
async fn a_signal_has_variables_of_its_own_and_leaves_in_its_time() {
    let (database, traces, logs) = (services::database().await, Collector::start(), Collector::start());
    let mut variables = settings(&database);
    let own = format!("{}/own/v1/logs", logs.endpoint);
    variables.extend(map(&[
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &traces.endpoint),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &own),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-logs=yes"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-common=no"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "100"),
    ]));
    let mut service = Service::serve(&variables);
    let (public, admin) = service.clients().await;
    eventually("readiness", || async { (admin.get("/health/ready", "").await.status == 200).then_some(()) }).await;
    let answer = public.get("/v1/tenant", "").await;
    eventually("the span, by the clock", || async {
        (!traces.trace(answer.header("x-trace-id")).is_empty()).then_some(())
    })
    .await;
    let line = eventually("the record, by the clock", || async {
        logs.logs().into_iter().find(|log| log.trace_id() == answer.header("x-trace-id"))
    })
    .await;
    assert_eq!(line.body(), "request_completed");
    assert!(traces.logs().is_empty() && logs.all().is_empty(), "each to its own");
    assert!(
        traces.requests().iter().all(|request| request.grpc && request.gzip && request.headers["x-common"] == "no")
    );
    for request in logs.requests() {
        assert_eq!((&*request.path, request.logs, &*request.headers["x-logs"]), ("/own/v1/logs", 1, "yes"));
        assert!(!request.headers.contains_key("x-common"), "its own wins whole");
    }
    service.signal("TERM");
    assert_eq!(service.exit(Duration::from_secs(30)).await, 0);
    services::drop_database(&database).await;
}

#[test]
fn no_row_of_the_table_is_untried() {
    let here = include_str!("otel_variables.rs");
    for variable in VARIABLES {
        assert!(
            here.contains(&format!("(\"{}\",", variable.name)),
            "{} is in the table and nobody sets it",
            variable.name
        );
    }
}
