//! `/v1/widgets`: bodies and handlers.

use axum::{
    extract::State as Shared,
    http::{StatusCode, header},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    model::{Changes, Given, NewWidget, Widget},
    store,
};
use crate::{
    domain::State,
    platform::{
        db::TenantTx,
        error::{Error, Result},
        http::{
            auth::{Caller, Read, Write},
            extract::{Json, PathId, Query},
            pagination::{ListQuery, Page},
            problem::{BodyProblem, ConflictProblem, NotFoundProblem, Problem},
        },
        tenancy::TenantId,
    },
};

pub fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(create_widget, list_widgets)).routes(routes!(
        show_widget,
        change_widget,
        delete_widget
    ))
}

/// A widget to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateWidget {
    /// Unique in the tenant, so that a repeated request can't make a second one.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "N-1")]
    number: String,
    #[schema(max_length = 200, pattern = "\\S")]
    name: String,
    #[schema(max_length = 2000, pattern = "\\S")]
    note: Option<String>,
}

/// What to change of a widget; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeWidget {
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    number: Option<String>,
    #[schema(max_length = 200, pattern = "\\S")]
    name: Option<String>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 2000, pattern = "\\S", value_type = Option<String>)]
    note: Option<Option<String>>,
}

/// Tells "absent" (`None`) from "null" (`Some(None)`).
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A widget.
#[derive(Debug, Serialize, ToSchema)]
struct WidgetBody {
    id: Uuid,
    number: String,
    name: String,
    #[schema(required)]
    note: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Widget> for WidgetBody {
    fn from(widget: Widget) -> Self {
        let Widget { id, number, name, note, created_at, updated_at } = widget;
        Self { id, number, name, note, created_at, updated_at }
    }
}

fn not_found() -> Error {
    Error::not_found("widget_not_found", "There is no such widget.")
}

/// Creates a widget.
#[utoipa::path(
    post,
    path = "/v1/widgets",
    tag = "widgets",
    security(("api_key" = ["write"])),
    request_body = CreateWidget,
    responses(
        (status = 201, body = WidgetBody, headers(("location" = String, description = "Path of the new widget"))),
        Problem, BodyProblem, ConflictProblem
    )
)]
async fn create_widget(
    Shared(state): Shared<State>,
    caller: Caller<Write>,
    Json(body): Json<CreateWidget>,
) -> Result<impl IntoResponse> {
    let widget = NewWidget::parse(&body.number, &body.name, body.note.as_deref())?;
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let widget = store::insert(&mut tx, &widget).await?;
    tx.commit().await?;
    state.metrics.widgets.created.inc();
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, format!("/v1/widgets/{}", widget.id))],
        Json(WidgetBody::from(widget)),
    ))
}

/// Lists the widgets, oldest first.
#[utoipa::path(
    get,
    path = "/v1/widgets",
    tag = "widgets",
    security(("api_key" = ["read"])),
    params(ListQuery),
    responses((status = 200, body = Page<WidgetBody>), Problem)
)]
async fn list_widgets(
    Shared(state): Shared<State>,
    caller: Caller<Read>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<WidgetBody>>> {
    let window = state.cursors.read(&query, caller.tenant, "widgets")?;
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let widgets = store::list(&mut tx, window.after, window.rows()).await?;
    tx.commit().await?;
    Ok(Json(state.cursors.page(&window, widgets, |widget| widget.id).map(WidgetBody::from)))
}

/// Shows a widget.
#[utoipa::path(
    get,
    path = "/v1/widgets/{widget_id}",
    tag = "widgets",
    security(("api_key" = ["read"])),
    params(("widget_id" = Uuid, Path)),
    responses((status = 200, body = WidgetBody), Problem, NotFoundProblem)
)]
async fn show_widget(Shared(state): Shared<State>, caller: Caller<Read>, id: PathId) -> Result<Json<WidgetBody>> {
    load_widget(&state, caller.tenant, id.0).await
}

async fn load_widget(state: &State, tenant: TenantId, id: Uuid) -> Result<Json<WidgetBody>> {
    let mut tx = TenantTx::begin(&state.db, tenant).await?;
    let widget = store::find(&mut tx, id).await?.ok_or_else(not_found)?;
    tx.commit().await?;
    Ok(Json(widget.into()))
}

/// Changes what is given of a widget.
#[utoipa::path(
    patch,
    path = "/v1/widgets/{widget_id}",
    tag = "widgets",
    security(("api_key" = ["write"])),
    params(("widget_id" = Uuid, Path)),
    request_body = ChangeWidget,
    responses((status = 200, body = WidgetBody), Problem, BodyProblem, NotFoundProblem, ConflictProblem)
)]
async fn change_widget(
    Shared(state): Shared<State>,
    caller: Caller<Write>,
    id: PathId,
    Json(body): Json<ChangeWidget>,
) -> Result<Json<WidgetBody>> {
    let changes = Changes::parse(Given { number: body.number, name: body.name, note: body.note })?;
    if changes.is_empty() {
        return load_widget(&state, caller.tenant, id.0).await;
    }
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let widget = store::update(&mut tx, id.0, &changes).await?.ok_or_else(not_found)?;
    tx.commit().await?;
    state.metrics.widgets.changed.inc();
    Ok(Json(widget.into()))
}

/// Deletes a widget.
#[utoipa::path(
    delete,
    path = "/v1/widgets/{widget_id}",
    tag = "widgets",
    security(("api_key" = ["write"])),
    params(("widget_id" = Uuid, Path)),
    responses((status = 204, description = "Deleted"), Problem, NotFoundProblem)
)]
async fn delete_widget(Shared(state): Shared<State>, caller: Caller<Write>, id: PathId) -> Result<StatusCode> {
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    if !store::delete(&mut tx, id.0).await? {
        return Err(not_found());
    }
    tx.commit().await?;
    state.metrics.widgets.deleted.inc();
    Ok(StatusCode::NO_CONTENT)
}
