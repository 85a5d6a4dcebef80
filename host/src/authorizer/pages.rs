//! The configurations in pages are valid.

use std::path::Path;

use super::check;
use crate::config::Config;

const AUTHORIZERS: &str = include_str!("../../../docs/authorizers.md");

/// Each block of the page that has an authorizer by tokens or keys and nothing else, in a file that uses it.
#[test]
fn authorizers_of_the_page_are_valid() {
    let mut tried = 0;
    for block in AUTHORIZERS.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        // The others need a plugin or a listener of their kind.
        let is_alone = ["\njwt = ", "\napi_keys = "]
            .iter()
            .any(|key| block.contains(key));
        let rest = block.strip_prefix("[authorizers.");
        let Some(rest) = rest.filter(|_| is_alone) else {
            continue;
        };
        let name = rest.split(']').next().unwrap_or_default();
        let text = format!(
            "[[listeners]]\naddress = \"127.0.0.1:8443\"\n[apis.a]\nauthorizer = \"{name}\"\n[apis.a.stages.s]\n{block}"
        );
        let config = Config::parse(&text, Path::new("gateway.toml"));
        let config = config.unwrap_or_else(|problems| panic!("{block}{problems}"));
        let mut faults = check(&config.authorizers);
        // A file of API keys is the reader's own.
        faults.retain(|fault| !fault.key.ends_with(".api_keys.file"));
        assert_eq!(faults, [], "{block}");
        tried += 1;
    }
    assert!(tried >= 8, "{tried}");
}
