//! `resources!`: the list of a domain's resources, so that a new one is a folder and a line here. Each has a
//! `router()`; one that counts names its metrics, which are made by `new(&Platform)`.

/// Declares `Metrics`, with a field for each resource that counts, and `router()`, with the routes of all. The
/// domain around it has `State` and `Platform`.
#[macro_export]
macro_rules! resources {
    ($( $name:ident $(: $metrics:ident)? ),* $(,)?) => {
        /// What the resources count, made once at the start.
        pub struct Metrics { $( $( pub $name: $name::$metrics, )? )* }

        impl Metrics {
            fn new(platform: &Platform<'_>) -> Self {
                // In a domain without resources nothing asks for it.
                let _platform = platform;
                Self { $( $( $name: $name::$metrics::new(platform), )? )* }
            }
        }

        /// All routes of the domain.
        pub fn router() -> OpenApiRouter<State> {
            OpenApiRouter::new()$( .merge($name::router()) )*
        }
    };
}
