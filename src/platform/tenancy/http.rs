//! `GET /v1/tenant`: the caller's own tenant. Also the smallest example of a handler.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::store;
use crate::platform::{
    db::{Db, TenantTx},
    error::{Error, Result},
    http::{
        auth::{Caller, Read},
        extract::Json,
        problem::Problem,
    },
};

/// The tenant of the API key.
#[derive(Serialize, ToSchema)]
pub struct TenantBody {
    id: Uuid,
    slug: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

pub fn router() -> OpenApiRouter<Db> {
    OpenApiRouter::new().routes(routes!(show_tenant))
}

/// Shows the tenant the API key belongs to.
#[utoipa::path(
    get,
    path = "/v1/tenant",
    tag = "tenant",
    security(("api_key" = ["read"])),
    responses((status = 200, body = TenantBody), Problem)
)]
async fn show_tenant(State(db): State<Db>, caller: Caller<Read>) -> Result<Json<TenantBody>> {
    let mut tx = TenantTx::begin(&db, caller.tenant).await?;
    let tenant = store::own_tenant(&mut tx)
        .await?
        .ok_or_else(|| Error::not_found("tenant_not_found", "The tenant no longer exists."))?;
    tx.commit().await?;
    Ok(Json(TenantBody {
        id: tenant.id,
        slug: tenant.slug,
        created_at: tenant.created_at,
        updated_at: tenant.updated_at,
    }))
}
