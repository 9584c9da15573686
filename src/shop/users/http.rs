//! `/v1/users`: bodies and handlers.

use axum::{
    extract::State as Shared,
    http::{StatusCode, header},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    model::{NewUser, User},
    store,
};
use crate::{
    platform::{
        db::TenantTx,
        error::{Error, Result},
        http::{
            auth::{Caller, Read, Write},
            extract::{Json, PathId, Query},
            pagination::{ListQuery, Page},
            problem::{BodyProblem, ConflictProblem, NotFoundProblem, Problem},
        },
    },
    shop::State,
};

pub fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(create_user, list_users)).routes(routes!(show_user))
}

/// A user to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    /// Unique in the tenant; kept in lower case.
    #[schema(max_length = 254, pattern = "^[^@\\s]+@[^@\\s.]+(\\.[^@\\s.]+)+$", example = "ada@example.com")]
    email: String,
    #[schema(max_length = 200, pattern = "\\S")]
    name: String,
    /// Where the sign-up came from.
    #[schema(max_length = 50, pattern = "\\S", example = "web")]
    source: String,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
struct UserBody {
    id: Uuid,
    email: String,
    name: String,
    source: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        let User { id, email, name, source, created_at, updated_at } = user;
        Self { id, email, name, source, created_at, updated_at }
    }
}

/// Creates a user.
#[utoipa::path(
    post,
    path = "/v1/users",
    tag = "users",
    security(("api_key" = ["write"])),
    request_body = CreateUser,
    responses(
        (status = 201, body = UserBody, headers(("location" = String, description = "Path of the new user"))),
        Problem, BodyProblem, ConflictProblem
    )
)]
async fn create_user(
    Shared(state): Shared<State>,
    caller: Caller<Write>,
    Json(body): Json<CreateUser>,
) -> Result<impl IntoResponse> {
    let user = NewUser::parse(&body.email, &body.name, &body.source)?;
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let user = store::insert(&mut tx, &user).await?;
    tx.commit().await?;
    state.metrics.users.signed_up(caller.tenant, &user.source);
    tracing::info!(user_id = %user.id, source = user.source, "user_created");
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/v1/users/{}", user.id))], Json(UserBody::from(user))))
}

/// Lists the users, oldest first.
#[utoipa::path(
    get,
    path = "/v1/users",
    tag = "users",
    security(("api_key" = ["read"])),
    params(ListQuery),
    responses((status = 200, body = Page<UserBody>), Problem)
)]
async fn list_users(
    Shared(state): Shared<State>,
    caller: Caller<Read>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<UserBody>>> {
    let window = state.cursors.read(&query, caller.tenant, "users")?;
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let users = store::list(&mut tx, window.after, window.rows()).await?;
    tx.commit().await?;
    Ok(Json(state.cursors.page(&window, users, |user| user.id).map(UserBody::from)))
}

/// Shows a user.
#[utoipa::path(
    get,
    path = "/v1/users/{user_id}",
    tag = "users",
    security(("api_key" = ["read"])),
    params(("user_id" = Uuid, Path)),
    responses((status = 200, body = UserBody), Problem, NotFoundProblem)
)]
async fn show_user(Shared(state): Shared<State>, caller: Caller<Read>, id: PathId) -> Result<Json<UserBody>> {
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let user = store::find(&mut tx, id.0).await?;
    tx.commit().await?;
    user.map(|user| Json(user.into())).ok_or_else(|| Error::not_found("user_not_found", "There is no such user."))
}
