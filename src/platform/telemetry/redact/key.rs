//! Secrets by the name they stand under: the lists, and how a key is read as words. What stands under
//! such a name in free text is `pair`.

use std::sync::LazyLock;

use super::{pair, view};

/// Names no other word ends in by chance: they count as the tail of a word too (`PGPASSWORD`, `xapikey`).
pub(super) const TAILS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "accountkey",
    "accountnumber",
    "apikey",
    "apitoken",
    "authkey",
    "authorization",
    "authtoken",
    "backupcode",
    "bankaccount",
    "bearertoken",
    "birthdate",
    "cardnumber",
    "connectionstring",
    "credential",
    "credentials",
    "creditcard",
    "csrftoken",
    "databaseurl",
    "dateofbirth",
    "email",
    "emailaddress",
    "emails",
    "encryptionkey",
    "familyname",
    "firstname",
    "fullname",
    "givenname",
    "hmackey",
    "idtoken",
    "lastname",
    "masterkey",
    "middlename",
    "msisdn",
    "nationalid",
    "passphrase",
    "passport",
    "passportnumber",
    "passwd",
    "password",
    "passwordhash",
    "passwords",
    "phonenumber",
    "postaladdress",
    "privatekey",
    "recoverycode",
    "redisurl",
    "refreshtoken",
    "routingnumber",
    "secret",
    "secretkey",
    "secretkeybase",
    "secrets",
    "securitytoken",
    "sessid",
    "sessionid",
    "sessionkey",
    "sessiontoken",
    "setcookie",
    "sharedkey",
    "signingkey",
    "sortcode",
    "sshkey",
    "streetaddress",
    "subscriptionkey",
    "taxid",
    "telephone",
    "verificationcode",
    "webhooksecret",
    "xsrftoken",
];

/// Names that are the end of harmless words (`shipping`, `japan`, `inside`): they count as words only.
pub(super) const WORDS: &[&str] = &[
    "address",
    "birthday",
    "cookie",
    "cookies",
    "csrf",
    "cvc",
    "cvv",
    "dbpwd",
    "dob",
    "dsn",
    "iban",
    "jwt",
    "mfa",
    "mobilephone",
    "mypwd",
    "otp",
    "otpcode",
    "pan",
    "passcode",
    "pepper",
    "phone",
    "pin",
    "pincode",
    "previoussessionid",
    "pwd",
    "session",
    "sessionpreviousid",
    "sid",
    "signature",
    "ssn",
    "street",
    "surname",
    "token",
    "totp",
    "xamzcredential",
    "xamzsignature",
    "xsrf",
];

/// Words before a name that make it none: a place in a list, an address of a machine (OpenTelemetry's
/// `server.address`), what a parser met.
const HARMLESS: &[(&str, &[&str])] = &[
    (
        "address",
        &[
            "admin",
            "base",
            "bind",
            "client",
            "destination",
            "endpoint",
            "host",
            "ip",
            "listen",
            "listener",
            "local",
            "mac",
            "network",
            "node",
            "peer",
            "physical",
            "public",
            "remote",
            "server",
            "socket",
            "source",
            "upstream",
        ],
    ),
    ("token", &["continuation", "first", "input", "next", "output", "page", "unexpected"]),
];

/// Enough for the longest name and the word before it.
pub(super) const LONGEST: usize = 48;

/// A name and whether it has to begin at a word.
type Name = (&'static str, bool);

/// The names by the place of their last two letters.
static NAMES: LazyLock<[Vec<Name>; 26 * 26]> = LazyLock::new(|| {
    let mut names = [const { Vec::new() }; 26 * 26];
    let tails = TAILS.iter().map(|name| (*name, false));
    for (name, whole) in tails.chain(WORDS.iter().map(|name| (*name, true))) {
        let [.., second, last] = *name.as_bytes() else { continue };
        names[place(second, last)].push((name, whole));
    }
    names
});

/// Which letters stand before which two in the names of the lists, one or many of them, and in those
/// `pair` knows: before the last two, and the fourth last before the two in the middle. Nearly all
/// other keys are refused by it.
struct Ends {
    third: [u32; 26 * 26],
    fourth: [u32; 26 * 26],
}

const ENDS: Ends = {
    let mut ends = Ends { third: [0; 26 * 26], fourth: [0; 26 * 26] };
    let lists = [TAILS, WORDS, pair::NAMES, pair::VALUES, pair::QUERY];
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            let name = lists[list][at].as_bytes();
            let [.., third, second, last] = *name else { panic!("a name has three letters") };
            ends.third[place(second, last)] |= bit(third);
            ends.third[place(last, b's')] |= bit(second);
            let before = if let [.., fourth, _, _, _] = *name { bit(fourth) } else { u32::MAX };
            ends.fourth[place(third, second)] |= before;
            ends.fourth[place(second, last)] |= bit(third);
            at += 1;
        }
        list += 1;
    }
    ends
};

const fn bit(letter: u8) -> u32 {
    1 << (letter - b'a')
}

const fn place(second: u8, last: u8) -> usize {
    (second - b'a') as usize * 26 + (last - b'a') as usize
}

/// Keys may end in as many digits and brackets (`address2`, `password[0]`).
const TRAILING: usize = 12;

/// How a key ends that can be one of the names: in the two letters of this place, or in letters that
/// have to be read first.
enum Ending {
    Place(usize),
    Foreign,
}

fn ending(key: &[u8]) -> Option<Ending> {
    let (mut letters, mut count) = ([0; 4], 0);
    for byte in key.iter().rev().take(TRAILING) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {
                letters[count] = byte | 0x20;
                count += 1;
                if count == letters.len() {
                    break;
                }
            }
            0x80.. => return Some(Ending::Foreign),
            _ => {}
        }
    }
    let [last, second, third, fourth] = letters;
    let is_end = count > 2
        && ENDS.third[place(second, last)] & bit(third) != 0
        && (count == 3 || ENDS.fourth[place(third, second)] & bit(fourth) != 0);
    is_end.then(|| Ending::Place(place(second, last)))
}

/// Whether the key that ends here can be one of the names.
pub(super) fn can_be_name(key: &[u8]) -> bool {
    ending(key).is_some()
}

/// Whether a value under this key is masked: the key is one of the names or ends in one at a word
/// (`user.password`, `x-api-key`, `stripeSecret`), whatever its case and separators.
pub fn is_secret_key(key: &str) -> bool {
    secret_name(key).is_some()
}

/// The name of the lists that makes this key a secret's.
pub(super) fn secret_name(key: &str) -> Option<&'static str> {
    let place = match ending(key.as_bytes())? {
        Ending::Place(place) if key.is_ascii() => place,
        _ => {
            let plain: String = key.chars().filter_map(view::plain).collect();
            // Letters that are not ASCII even so are in no name.
            return secret_name(plain.rsplit(|c: char| !c.is_ascii()).next()?);
        }
    };
    let key = key.trim_end_matches(|c: char| !c.is_ascii_alphabetic()).as_bytes();
    let (name, at) = NAMES[place].iter().find_map(|(name, whole)| {
        let at = tail(key, name)?;
        (!whole || starts_word(key, at)).then_some((*name, at))
    })?;
    let end = key[..at].iter().rposition(u8::is_ascii_alphanumeric).map_or(0, |last| last + 1);
    let (before, is_spaced) = (&key[..end], key[..at].ends_with(b" "));
    let follows = |word: &&str| {
        before.last().map(u8::to_ascii_lowercase) == word.as_bytes().last().copied()
            && tail(before, word).is_some_and(|at| starts_word(key, at))
    };
    let harmless = HARMLESS.iter().any(|(harmless, words)| *harmless == name && words.iter().any(follows));
    // `has_password` is a yes or no; "this is password: x" is not.
    let asks = !is_spaced && ["has", "is"].iter().any(follows);
    (!harmless && !asks).then_some(name)
}

/// Where the name begins that the key ends in, its separators and case left aside.
fn tail(key: &[u8], name: &str) -> Option<usize> {
    let mut at = key.len();
    for letter in name.bytes().rev() {
        at = at.checked_sub(1)?;
        while !key[at].is_ascii_alphanumeric() {
            at = at.checked_sub(1)?;
        }
        if key[at].to_ascii_lowercase() != letter {
            return None;
        }
    }
    Some(at)
}

/// Whether a word begins here: after a separator or a number, at a hump of `camelCase`, at the last
/// capital of `APIKey`.
fn starts_word(key: &[u8], at: usize) -> bool {
    let Some(before) = key[..at].last().filter(|byte| byte.is_ascii_alphabetic()) else { return true };
    let goes_on = key.get(at + 1).is_some_and(u8::is_ascii_lowercase);
    key[at].is_ascii_uppercase() && (before.is_ascii_lowercase() || goes_on)
}

#[cfg(test)]
mod tests {
    use super::is_secret_key;

    #[test]
    fn secret_keys_are_found_in_any_spelling() {
        for key in [
            "password",
            "PassWord",
            "PaSsWoRd",
            "user.password",
            "PGPASSWORD",
            "password2",
            "password[0]",
            "passwords",
            "X-Api-Key",
            "XAPIKEY",
            "apiKey",
            "APIKey",
            "api key",
            "stripe_secret",
            "DATABASE_URL",
            "session.id",
            "session.previous_id",
            "http.request.header.authorization",
            "http.request.header.set-cookie",
            "user.email",
            "user.full_name",
            "email_address",
            "billing.address",
            "address2",
            "shipAddress",
            "ip_pin",
            "user_pin",
            "userPin",
            "userPIN",
            "2fa-pin",
            "X-CSRF-Token",
            "JSESSIONID",
            "redis_password",
            "this is password",
            "ｐａｓｓｗｏｒｄ",
            "Ｐass\u{200b}word",
            "größe.password",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn other_keys_are_not() {
        const OURS: &str = "method route path status outcome duration_ms db_queries db_ms db_pool_wait_ms redis_ops \
            redis_ms request_bytes response_bytes error_code error tenant_id principal_id request_id correlation_id \
            trace_id span_id job job_id attempt queue dependency code detail listen_ms ttl_seconds from to filter \
            panic location backtrace target signal db_query_summary db_query_text rows public admin shipping message \
            timestamp level service environment version sampled";
        const CONVENTIONS: &str = "server.address server.port client.address network.peer.address \
            network.local.address source.address destination.address hw.network.physical_address service.name \
            service.instance.id host.name host.ip host.mac thread.name thread.id code.function.name code.file.path \
            url.path url.full url.query url.scheme user_agent.original http.request.method http.route \
            http.response.status_code db.system.name db.operation.name db.collection.name db.query.text \
            db.response.status_code db.client.connection.pool.name error.type exception.message process.pid \
            messaging.destination.name messaging.message.conversation_id aws.s3.key feature_flag.key \
            gen_ai.usage.input_tokens gen_ai.token.type k8s.secret.name geo.postal_code enduser.id user.id user.name";
        const OTHERS: &str = "tokens_used token_count max_tokens total_tokens tokens page_token nextPageToken cursor \
            public_key publicKey key_id access_key_id idempotency_key key mapping spin japan inside Shipping \
            hasPassword is_secret has_email ip_address remoteAddress bind-address microphone process_id basket aside pinned \
            secret_ref password_reset_at token_type cookie_name session_count signature_version author keyboard \
            monkey español größe x 42 _ secretary tokenizer emailed";
        for key in [OURS, CONVENTIONS, OTHERS].into_iter().flat_map(str::split_whitespace).chain(["", " ", "日本語"])
        {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
