//! What becomes of widgets, counted after the commit.

use prometheus::IntCounter;

use crate::{domain::Platform, labels, platform::telemetry::metrics::Counter};

labels! {
    pub struct Written {
        outcome: &'static str = "_OTHER",
    }
}

/// Handles resolved once; their series are at 0 from the first scrape.
pub struct WidgetMetrics {
    pub created: IntCounter,
    pub changed: IntCounter,
    pub deleted: IntCounter,
}

impl WidgetMetrics {
    pub fn new(platform: &Platform<'_>) -> Self {
        let widgets: Counter<Written> =
            platform.registry.counter("domain_widgets_total", "Writes of widgets, by what was done.", 8);
        let of = |outcome| widgets.with(&Written { outcome });
        Self { created: of("created"), changed: of("changed"), deleted: of("deleted") }
    }
}
