//! Mutations: a token with any byte changed is refused, and no text at all is a panic.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn token_with_a_changed_byte_is_refused(place in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
        static TOKEN: LazyLock<String> = LazyLock::new(|| es256(&ec_header(), &claims()));
        static KEYS: LazyLock<Keys> = LazyLock::new(keys);
        let mut bytes = TOKEN.clone().into_bytes();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        let mutant = String::from_utf8(bytes).expect("it is ASCII");
        prop_assert!(verify_by(&mutant, &issuer(), &KEYS).is_err());
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC{0,64}(\\.\\PC{0,64}){0,4}") {
        prop_assert!(Token::read(&text).is_err());
    }

    #[test]
    fn any_set_of_keys_is_judged_without_a_panic(text in "\\PC{0,200}") {
        prop_assert!(Keys::from_set(text.as_bytes(), &issuer().algorithms).is_err());
    }

    /// Signed by the issuer, with any values for the claims that decide.
    #[test]
    fn any_claims_are_judged_without_a_panic(
        exp in any::<f64>(), iat in any::<f64>(), sub in ".*", aud in prop::collection::vec(".*", 0..3),
    ) {
        static KEYS: LazyLock<Keys> = LazyLock::new(keys);
        let claims = json!({ "iss": ISSUER, "aud": aud, "sub": sub, "exp": exp, "iat": iat });
        let refused = verify_by(&es256(&ec_header(), &claims), &issuer(), &KEYS);
        if refused.is_ok() {
            prop_assert!(exp > NOW as f64 && iat <= NOW as f64 && aud.iter().any(|aud| aud == "chat"));
        }
    }
}
