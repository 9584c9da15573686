//! Secrets by the name they stand under.

/// Key names, normalised: lower case, no separators.
const SECRET_KEYS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "authorization",
    "clientsecret",
    "cookie",
    "creditcard",
    "cvv",
    "databaseurl",
    "dsn",
    "email",
    "iban",
    "passphrase",
    "passwd",
    "password",
    "pepper",
    "privatekey",
    "proxyauthorization",
    "pwd",
    "redisurl",
    "refreshtoken",
    "secret",
    "secretkey",
    "setcookie",
    "ssn",
    "token",
];

/// Whether a value under this key is masked: an exact match after normalising, or a suffix
/// (`user.password`, `x-api-key`, `stripeSecret`).
pub fn is_secret_key(key: &str) -> bool {
    let normal: String =
        key.chars().filter(|c| !matches!(c, '-' | '_' | '.' | ' ')).flat_map(char::to_lowercase).collect();
    SECRET_KEYS.iter().any(|secret| normal.ends_with(secret))
}

#[cfg(test)]
mod tests {
    use super::is_secret_key;

    #[test]
    fn secret_keys_are_found_in_any_spelling() {
        for key in ["password", "PassWord", "user.password", "X-Api-Key", "apiKey", "stripe_secret", "DATABASE_URL"] {
            assert!(is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn counts_and_ids_are_not_secrets() {
        for key in ["tokens_used", "token_count", "request_id", "trace_id", "key_id", "idempotency_key", "route"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
