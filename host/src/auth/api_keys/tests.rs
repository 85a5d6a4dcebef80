use super::table::MAX_KEYS;
use super::*;

fn table_with(names: &[&str]) -> (Table, Vec<NewKey>) {
    let mut table = Table::new().expect("there are random bytes");
    let keys = names.iter().map(|name| {
        let key = NewKey::generate().expect("there are random bytes");
        let added = table.add(&key, name, Some("gold"), "2026-11-26");
        added.expect("the name is new");
        key
    });
    let keys = keys.collect();
    (table, keys)
}

fn name_of(table: &Table, presented: &str) -> Option<String> {
    table.find(presented).map(|record| record.name.clone())
}

#[test]
fn key_is_found_by_all_of_it_and_by_nothing_else() {
    let (table, keys) = table_with(&["mobile", "web"]);
    let (key, other) = (&keys[0], &keys[1]);
    assert_eq!(name_of(&table, &key.text), Some("mobile".to_owned()));
    assert_eq!(name_of(&table, &other.text), Some("web".to_owned()));
    let secret = key.text.split_once('.').expect("a dot").1;
    for presented in [
        String::new(),
        ".".to_owned(),
        key.prefix.clone(),
        format!("{}.", key.prefix),
        secret.to_owned(),
        format!(".{secret}"),
        format!("{}.{secret}", other.prefix),
        format!("{}.{secret}.", key.prefix),
        format!(" {}", key.text),
        key.text.to_uppercase(),
        key.text.repeat(3),
        format!("lk_unknown.{secret}"),
    ] {
        assert_eq!(name_of(&table, &presented), None, "{presented}");
    }
    for place in 0..key.text.len() {
        let mut bytes = key.text.clone().into_bytes();
        bytes[place] ^= 1;
        let mutant = String::from_utf8(bytes).expect("ASCII");
        assert_eq!(name_of(&table, &mutant), None, "{mutant}");
    }
}

#[test]
fn file_has_no_secret_of_a_key_and_brings_all_back() {
    let (table, keys) = table_with(&["mobile", "web", "with \"quotes\"\nand lines"]);
    let text = table.to_text();
    for key in &keys {
        let secret = key.text.split_once('.').expect("a dot").1;
        assert_eq!(secret.len(), 43, "256 bits in base64url");
        assert!(!text.contains(secret) && text.contains(&key.prefix));
    }
    let read = Table::parse(&text).expect("it is what was written");
    assert_eq!(read.records().count(), 3);
    assert!(read.records().eq(table.records()));
    assert_eq!(name_of(&read, &keys[0].text), Some("mobile".to_owned()));
    assert!(!format!("{read:?}").contains("lk_"));
    // The hashes of another file are another's.
    let mut other = Table::new().expect("there are random bytes");
    other.add(&keys[0], "mobile", None, "").expect("it is new");
    let hash = |table: &Table| table.get(&keys[0].prefix).expect("it is there").hash;
    assert_ne!(hash(&other), hash(&table));
}

#[test]
fn revoked_key_is_gone_and_a_name_is_given_once() {
    let (mut table, keys) = table_with(&["mobile", "web"]);
    let again = table.add(&keys[0], "web", None, "");
    assert_eq!(again, Err(BadTable::SameName("web".to_owned())));
    assert_eq!(
        table.remove("mobile").expect("it is there").prefix,
        keys[0].prefix
    );
    assert_eq!(name_of(&table, &keys[0].text), None);
    table.remove(&keys[1].prefix).expect("it is there");
    let gone = table.remove("web").expect_err("it is gone");
    assert_eq!(gone, BadTable::Unknown("web".to_owned()));
}

#[test]
fn damaged_file_is_refused_without_a_word_of_it() {
    let (table, keys) = table_with(&["mobile"]);
    let text = table.to_text();
    for damaged in [
        String::new(),
        "[]".to_owned(),
        text.replace("secret", "sekret"),
        text.replacen("secret = \"", "secret = \"A", 1),
        text.replace("hash = \"", "hash = \"A"),
        text.replace("made", "other"),
        "<html>".to_owned(),
    ] {
        let error = Table::parse(&damaged)
            .expect_err("it is damaged")
            .to_string();
        assert!(
            error.contains("no file of API keys") || error.contains("damaged"),
            "{error}"
        );
        let hash = text.split("hash = \"").nth(1).expect("a hash");
        assert!(!error.contains(&hash[..10]) && keys.len() == 1);
    }
}

#[test]
fn mistake_in_a_file_has_its_line_and_its_cause() {
    let (table, _) = table_with(&["mobile"]);
    let text = table.to_text();
    let made = "made = \"2026-11-26\"\n";
    for (damaged, what) in [
        (text.replace(made, &made.repeat(2)), "twice"),
        (text.replace(made, "made = 1\n"), "another type"),
        (text.replace(made, "mode = \"\"\n"), "a field is unknown"),
        (text.replace(made, "made = CANARY\n"), "no TOML"),
    ] {
        let error = Table::parse(&damaged).expect_err("it is damaged");
        let line = 1 + damaged
            .lines()
            .zip(text.lines())
            .position(|(damaged, right)| damaged != right)
            .expect("they differ");
        let error = error.to_string();
        assert!(
            error.contains(&format!("by line {line}: ")) && error.contains(what),
            "{line}, {what}: {error}"
        );
        assert!(!error.contains("CANARY"));
    }
    let missing = Table::parse(&text.replace(made, "")).expect_err("it is damaged");
    assert!(
        missing.to_string().contains("a field is missing"),
        "{missing}"
    );
}

#[test]
fn key_over_its_bound_is_nobodys() {
    let mut table = Table::new().expect("there are random bytes");
    let key = |letters: usize| NewKey {
        prefix: format!("lk_{letters}"),
        text: format!("{:s<letters$}", format!("lk_{letters}.")),
    };
    for letters in [MAX_KEY, MAX_KEY + 1] {
        let added = table.add(&key(letters), &letters.to_string(), None, "");
        added.expect("it is new");
    }
    assert_eq!(
        name_of(&table, &key(MAX_KEY).text),
        Some(MAX_KEY.to_string())
    );
    assert_eq!(name_of(&table, &key(MAX_KEY + 1).text), None);
}

#[test]
fn table_has_a_bound() {
    let (one, keys) = table_with(&["mobile"]);
    let text = one.to_text();
    let (head, key) = text.split_once("[keys.").expect("it has a key");
    let with = |count: usize| {
        let keys = (0..count).map(|number| {
            let key = key.replace(&keys[0].prefix, &format!("lk_{number}"));
            format!("[keys.{key}")
        });
        Table::parse(&format!("{head}{}", keys.collect::<String>()))
    };
    let mut full = with(MAX_KEYS).expect("it is at its bound");
    assert_eq!(full.records().count(), MAX_KEYS);
    let key = NewKey::generate().expect("there are random bytes");
    assert_eq!(full.add(&key, "web", None, ""), Err(BadTable::TooMany));
    assert_eq!(with(MAX_KEYS + 1).err(), Some(BadTable::TooMany));
}
