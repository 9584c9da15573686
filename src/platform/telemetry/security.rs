//! Security events: one stream in the logs (`security_event`) and one counter, for who watches over
//! many services. What an event is called is fixed here; for which request, tenant and principal is in the
//! line's context (the admin port has none).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{context, metrics::Registry};
use crate::labels;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An API key was shown that is not valid.
    AuthenticationFailed,
    /// A client whose keys were not valid again and again was stopped.
    AuthenticationLimited,
    /// A valid key asked for what its scope does not allow.
    AuthorizationFailed,
    /// The admin listener was asked to change something without its token.
    AdminAccessDenied,
    /// The level of the logs was changed.
    LogLevelChanged,
    /// A tenant's webhook points to an address that it may not reach.
    OutboundForbidden,
    /// A cursor was forged, or is another tenant's.
    CursorRejected,
    /// A tenant went over its limit.
    RateLimitExceeded,
    /// Secrets were read anew and are in use.
    SecretsRotated,
}

impl Event {
    pub const ALL: [Self; 9] = [
        Self::AuthenticationFailed,
        Self::AuthenticationLimited,
        Self::AuthorizationFailed,
        Self::AdminAccessDenied,
        Self::LogLevelChanged,
        Self::OutboundForbidden,
        Self::CursorRejected,
        Self::RateLimitExceeded,
        Self::SecretsRotated,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthenticationFailed => "authentication_failed",
            Self::AuthenticationLimited => "authentication_limited",
            Self::AuthorizationFailed => "authorization_failed",
            Self::AdminAccessDenied => "admin_access_denied",
            Self::LogLevelChanged => "log_level_changed",
            Self::OutboundForbidden => "outbound_forbidden",
            Self::CursorRejected => "cursor_rejected",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::SecretsRotated => "secrets_rotated",
        }
    }

    /// Counts it and says so.
    pub fn record(self) {
        COUNTS[self as usize].fetch_add(1, Relaxed);
        let event = self.name();
        let client_ip = context::with_current(|request| request.client).flatten().map(|ip| ip.to_string());
        let client_ip = client_ip.as_deref();
        // A callsite each, because lines are limited by callsite: a flood of wrong keys must not hide who
        // was refused at the admin port.
        match self {
            Self::AuthenticationFailed => tracing::warn!(event, client_ip, "security_event"),
            Self::AuthenticationLimited => tracing::warn!(event, client_ip, "security_event"),
            Self::AuthorizationFailed => tracing::warn!(event, client_ip, "security_event"),
            Self::AdminAccessDenied => tracing::warn!(event, client_ip, "security_event"),
            Self::LogLevelChanged => tracing::warn!(event, client_ip, "security_event"),
            Self::OutboundForbidden => tracing::warn!(event, client_ip, "security_event"),
            Self::CursorRejected => tracing::warn!(event, client_ip, "security_event"),
            Self::RateLimitExceeded => tracing::warn!(event, client_ip, "security_event"),
            Self::SecretsRotated => tracing::warn!(event, client_ip, "security_event"),
        }
    }
}

static COUNTS: [AtomicU64; Event::ALL.len()] = [const { AtomicU64::new(0) }; Event::ALL.len()];

labels! {
    pub struct EventLabel { event: &'static str = "_OTHER" }
}

/// Registers `security_events_total`.
pub fn register(registry: &Registry) {
    registry.counter_fn("security_events_total", "What the security log says, by event.", || {
        Event::ALL
            .iter()
            .map(|event| (EventLabel { event: event.name() }, COUNTS[*event as usize].load(Relaxed) as f64))
            .collect()
    });
}
