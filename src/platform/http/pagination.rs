//! Lists: `?limit=&cursor=` → `{"data":[…],"next_cursor":…}`. A cursor is opaque, signed, and good
//! for one tenant and one list only.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::platform::{
    error::{Error, Kind, Result},
    telemetry::security,
    tenancy::{TenantId, api_key::Pepper},
};

pub const DEFAULT_LIMIT: i64 = 20;
pub const MAX_LIMIT: i64 = 100;

/// The query of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// Send it as `cursor` for the next page; null on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Makes and reads the cursors of all lists.
#[derive(Clone)]
pub struct Cursors(Pepper);

/// Half of an HMAC-SHA-256: 128 bits, as RFC 2104 §5 allows.
const TAG: usize = 16;

impl Cursors {
    pub fn new(pepper: &Pepper) -> Self {
        Self(pepper.clone())
    }

    /// The tags a cursor may carry; the first is the one that new ones do.
    fn tags(&self, tenant: TenantId, list: &'static str, last: Uuid) -> impl Iterator<Item = [u8; TAG]> {
        self.0.derive("cursor").into_iter().map(move |key| Self::tag(&key, tenant, list, last))
    }

    fn tag(key: &hmac::Key, tenant: TenantId, list: &'static str, last: Uuid) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(key);
        context.update(tenant.as_uuid().as_bytes());
        context.update(last.as_bytes());
        context.update(list.as_bytes());
        let tag = context.sign();
        tag.as_ref()[..TAG].try_into().expect("a SHA-256 tag has 32 bytes")
    }

    fn seal(&self, tenant: TenantId, list: &'static str, last: Uuid) -> String {
        let tag = self.tags(tenant, list, last).next().expect("there is always a current pepper");
        BASE64_URL_SAFE_NO_PAD.encode([last.as_bytes().as_slice(), &tag].concat())
    }

    fn open(&self, tenant: TenantId, list: &'static str, text: &str) -> Option<Uuid> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (last, tag) = bytes.split_at_checked(16)?;
        let last = Uuid::from_slice(last).ok()?;
        let is_it = |ours: [u8; TAG]| aws_lc_rs::constant_time::verify_slices_are_equal(tag, &ours).is_ok();
        self.tags(tenant, list, last).any(is_it).then_some(last)
    }

    /// What the query asks for.
    ///
    /// # Errors
    /// `Malformed` for a limit out of range or a cursor that is not of this tenant and list.
    pub fn read(&self, query: &ListQuery, tenant: TenantId, list: &'static str) -> Result<Window> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::new(Kind::Malformed, "limit_out_of_range", "limit must be between 1 and 100."));
        }
        let after = match &query.cursor {
            None => None,
            Some(text) => Some(self.open(tenant, list, text).ok_or_else(|| {
                security::Event::CursorRejected.record();
                Error::new(Kind::Malformed, "invalid_cursor", "The cursor is not one of this list.")
            })?),
        };
        Ok(Window { limit, after, list, tenant })
    }

    /// Cuts the extra row that shows whether there is a next page.
    pub fn page<T>(&self, window: &Window, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let limit = usize::try_from(window.limit).expect("checked by read");
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more).map(&id);
        Page { next_cursor: last.map(|last| self.seal(window.tenant, window.list, last)), data: rows }
    }
}

/// A checked list query.
#[derive(Debug)]
pub struct Window {
    limit: i64,
    /// Rows after this id.
    pub after: Option<Uuid>,
    list: &'static str,
    tenant: TenantId,
}

impl Window {
    /// Rows to fetch: one more than the page.
    pub const fn rows(&self) -> i64 {
        self.limit + 1
    }
}

impl<T> Page<T> {
    pub fn map<U>(self, f: impl Fn(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::config::Secret;

    fn cursors() -> Cursors {
        Cursors::new(&Pepper::new(&Secret::new("p".repeat(32)), None))
    }

    proptest! {
        #[test]
        fn a_cursor_opens_for_its_tenant_and_list_only(tenant: u128, other: u128, last: u128) {
            prop_assume!(tenant != other);
            let [tenant, other] = [tenant, other].map(|id| TenantId::from_uuid(Uuid::from_u128(id)));
            let text = cursors().seal(tenant, "products", Uuid::from_u128(last));
            prop_assert_eq!(cursors().open(tenant, "products", &text), Some(Uuid::from_u128(last)));
            prop_assert_eq!(cursors().open(other, "products", &text), None);
            prop_assert_eq!(cursors().open(tenant, "users", &text), None);
        }

        #[test]
        fn no_text_of_a_stranger_opens(text in ".{0,80}") {
            prop_assert_eq!(cursors().open(TenantId::from_uuid(Uuid::nil()), "products", &text), None);
        }
    }
}
