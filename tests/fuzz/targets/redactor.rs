//! The redactor: a secret does not survive, whatever stands around it; what is clean stays clean.

use std::sync::Once;

use keel::platform::telemetry::{
    redact::{MASK, is_secret_key, protect, scrub},
    sink::Sink,
};

use super::{
    input::Input,
    planted::{self, OWN, PLACES},
};

pub fn run(data: &[u8]) {
    static OWN_SECRET: Once = Once::new();
    OWN_SECRET.call_once(|| protect([OWN.to_owned()]));

    check(&String::from_utf8_lossy(data));

    let mut input = Input::new(data);
    let planted = planted::secret(&mut input);
    let (open, close) = input.pick(PLACES);
    let (mut before, after) = (input.text().into_owned(), input.rest());
    if (open, close) == ("", "") {
        before.clear();
    }
    let after = if close.is_empty() { "" } else { &after };
    let text = format!("{before}{open}{}{close}{after}", planted.text);
    let clean = check(&text);
    assert!(!clean.contains(&planted.secret), "{} survives: {text:?} -> {clean:?}", planted.secret);

    let name = input.rest();
    for key in ["password", "api_key", "x-api-key", "sessionToken"] {
        assert_eq!(Sink::Log.field(key, &text), MASK, "{key}");
        // Any prefix that ends a word leaves the name a secret's.
        is_secret_key(&format!("{name}.{key}"));
    }
}

fn check(text: &str) -> String {
    is_secret_key(text);
    let clean = scrub(text).into_owned();
    assert_eq!(scrub(&clean), clean, "twice is once: {text:?}");
    // The shortest name, its sign and one character make the mask and as much again.
    let bound = 3 * text.len() + MASK.len();
    assert!(clean.len() <= bound, "{} bytes of {}: {text:?}", clean.len(), text.len());
    if clean != text {
        assert!(clean.contains(MASK), "what was changed says so: {text:?} -> {clean:?}");
    }
    clean
}
