//! `/v1/products`: bodies and handlers.

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
    model::{Changes, Given, NewProduct, Product},
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
        tenancy::TenantId,
    },
    shop::{Money, State},
};

pub fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(create_product, list_products)).routes(routes!(
        show_product,
        change_product,
        delete_product
    ))
}

/// A product to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateProduct {
    /// Unique in the tenant.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", example = "OAK-1")]
    sku: String,
    #[schema(max_length = 200, pattern = "\\S")]
    name: String,
    #[schema(max_length = 2000, pattern = "\\S")]
    description: Option<String>,
    price: Money,
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    stock: i64,
}

/// What to change of a product; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeProduct {
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    sku: Option<String>,
    #[schema(max_length = 200, pattern = "\\S")]
    name: Option<String>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 2000, pattern = "\\S", value_type = Option<String>)]
    description: Option<Option<String>>,
    price: Option<Money>,
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    stock: Option<i64>,
}

/// Tells "absent" (`None`) from "null" (`Some(None)`).
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
struct ProductBody {
    id: Uuid,
    sku: String,
    name: String,
    #[schema(required)]
    description: Option<String>,
    price: Money,
    stock: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Product> for ProductBody {
    fn from(product: Product) -> Self {
        let Product { id, sku, name, description, price_minor, currency, stock, created_at, updated_at } = product;
        let price = Money { amount_minor: price_minor, currency };
        Self { id, sku, name, description, price, stock, created_at, updated_at }
    }
}

fn not_found() -> Error {
    Error::not_found("product_not_found", "There is no such product.")
}

/// Creates a product.
#[utoipa::path(
    post,
    path = "/v1/products",
    tag = "products",
    security(("api_key" = ["write"])),
    request_body = CreateProduct,
    responses(
        (status = 201, body = ProductBody, headers(("location" = String, description = "Path of the new product"))),
        Problem, BodyProblem, ConflictProblem
    )
)]
async fn create_product(
    Shared(state): Shared<State>,
    caller: Caller<Write>,
    Json(body): Json<CreateProduct>,
) -> Result<impl IntoResponse> {
    let price = (body.price.amount_minor, body.price.currency);
    let product = NewProduct::parse(&body.sku, &body.name, body.description.as_deref(), price, body.stock)?;
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let product = store::insert(&mut tx, &product).await?;
    tx.commit().await?;
    tracing::info!(product_id = %product.id, "product_created");
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, format!("/v1/products/{}", product.id))],
        Json(ProductBody::from(product)),
    ))
}

/// Lists the products, oldest first.
#[utoipa::path(
    get,
    path = "/v1/products",
    tag = "products",
    security(("api_key" = ["read"])),
    params(ListQuery),
    responses((status = 200, body = Page<ProductBody>), Problem)
)]
async fn list_products(
    Shared(state): Shared<State>,
    caller: Caller<Read>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ProductBody>>> {
    let window = state.cursors.read(&query, caller.tenant, "products")?;
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let products = store::list(&mut tx, window.after, window.rows()).await?;
    tx.commit().await?;
    Ok(Json(state.cursors.page(&window, products, |product| product.id).map(ProductBody::from)))
}

/// Shows a product.
#[utoipa::path(
    get,
    path = "/v1/products/{product_id}",
    tag = "products",
    security(("api_key" = ["read"])),
    params(("product_id" = Uuid, Path)),
    responses((status = 200, body = ProductBody), Problem, NotFoundProblem)
)]
async fn show_product(Shared(state): Shared<State>, caller: Caller<Read>, id: PathId) -> Result<Json<ProductBody>> {
    let load = || load_product(&state, caller.tenant, id.0);
    let product = state.products.get(caller.tenant, id.0, load).await?;
    product.map(|product| Json(product.into())).ok_or_else(not_found)
}

async fn load_product(state: &State, tenant: TenantId, id: Uuid) -> Result<Option<Product>> {
    let mut tx = TenantTx::begin(&state.db, tenant).await?;
    let product = store::find(&mut tx, id).await?;
    tx.commit().await?;
    Ok(product)
}

/// Changes what is given of a product.
#[utoipa::path(
    patch,
    path = "/v1/products/{product_id}",
    tag = "products",
    security(("api_key" = ["write"])),
    params(("product_id" = Uuid, Path)),
    request_body = ChangeProduct,
    responses((status = 200, body = ProductBody), Problem, BodyProblem, NotFoundProblem, ConflictProblem)
)]
async fn change_product(
    Shared(state): Shared<State>,
    caller: Caller<Write>,
    id: PathId,
    Json(body): Json<ChangeProduct>,
) -> Result<Json<ProductBody>> {
    let changes = Changes::parse(Given {
        sku: body.sku,
        name: body.name,
        description: body.description,
        price: body.price.map(|price| (price.amount_minor, price.currency)),
        stock: body.stock,
    })?;
    if changes.is_empty() {
        tracing::info!(product_id = %id.0, "product_update_noop");
        return load_product(&state, caller.tenant, id.0)
            .await?
            .map(|product| Json(product.into()))
            .ok_or_else(not_found);
    }
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    let product = store::update(&mut tx, id.0, &changes).await?.ok_or_else(not_found)?;
    tx.commit().await?;
    state.products.invalidate(caller.tenant, id.0).await;
    Ok(Json(product.into()))
}

/// Deletes a product.
#[utoipa::path(
    delete,
    path = "/v1/products/{product_id}",
    tag = "products",
    security(("api_key" = ["write"])),
    params(("product_id" = Uuid, Path)),
    responses((status = 204, description = "Deleted"), Problem, NotFoundProblem)
)]
async fn delete_product(Shared(state): Shared<State>, caller: Caller<Write>, id: PathId) -> Result<StatusCode> {
    let mut tx = TenantTx::begin(&state.db, caller.tenant).await?;
    if !store::delete(&mut tx, id.0).await? {
        return Err(not_found());
    }
    tx.commit().await?;
    state.products.invalidate(caller.tenant, id.0).await;
    Ok(StatusCode::NO_CONTENT)
}
