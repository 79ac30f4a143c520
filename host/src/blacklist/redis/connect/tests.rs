//! What the configuration of Redis is taken to mean.

use std::io::Write as _;

use super::*;
use crate::blacklist::{Config, redis::Redis};

fn config(yaml: &str) -> RedisConfig {
    serde_saphyr::from_str::<Config>(&format!("redis: {{ {yaml} }}")).unwrap().redis.unwrap()
}

fn connector(yaml: &str) -> Connector {
    Connector::new(&config(yaml)).unwrap()
}

fn complaint(yaml: &str) -> String {
    Redis::build(&config(yaml)).unwrap_err().to_string()
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn host_and_tls(info: &ConnectionInfo) -> (String, bool) {
    (Address::of(info).to_string(), matches!(info.addr(), ConnectionAddr::TcpTls { .. }))
}

#[test]
fn an_address_says_host_database_user_and_tls() {
    let password = file("pass\n");
    let yaml = format!(
        "url: 'rediss://store:6380/3', username: me, password_file: '{}'",
        password.path().display()
    );
    let connector = connector(&yaml);
    assert_eq!(host_and_tls(&connector.primary), ("store:6380".to_owned(), true));
    let settings = connector.primary.redis_settings();
    assert_eq!(
        (settings.db(), settings.username(), settings.password()),
        (3, Some("me"), Some("pass"))
    );
    assert!(connector.sentinels.is_none());
}

#[test]
fn sentinels_need_no_address_and_have_a_password_of_their_own() {
    let (ours, theirs) = (file("ours"), file("theirs"));
    let yaml = format!(
        "sentinels: ['one:26379', '[::1]:26380'], master_name: mymaster, password_file: '{}', \
         sentinel_password_file: '{}'",
        ours.path().display(),
        theirs.path().display()
    );
    let connector = connector(&yaml);
    assert_eq!(connector.primary.redis_settings().password(), Some("ours"));
    let sentinels = connector.sentinels.unwrap();
    let all: Vec<_> = sentinels.all.iter().map(host_and_tls).collect();
    assert_eq!(all, [("one:26379".to_owned(), false), ("::1:26380".to_owned(), false)]);
    assert!(sentinels.all.iter().all(|one| one.redis_settings().password() == Some("theirs")));
}

#[test]
fn tls_and_database_of_the_address_hold_with_sentinels() {
    let connector =
        connector("url: 'rediss://user@ignored/2', sentinels: ['one:1'], master_name: mymaster");
    let sentinels = connector.sentinels.as_ref().unwrap();
    assert_eq!(host_and_tls(&sentinels.all[0]), ("one:1".to_owned(), true));
    let found = Address::parse("10.0.0.7:6379").unwrap().on(&connector.primary);
    assert_eq!(host_and_tls(&found), ("10.0.0.7:6379".to_owned(), true));
    assert_eq!(found.redis_settings().db(), 2);
}

#[test]
fn what_cannot_work_is_refused_with_key_and_fix() {
    let empty = file("no certificate");
    let not_pem = format!("url: 'rediss://a', ca_file: '{}'", empty.path().display());
    for (yaml, words) in [
        ("master_name: m", "`blacklist.redis`: give `url` or `url_file`"),
        ("url: 'http://store'", "`blacklist.redis.url`: write `redis://"),
        ("url: 'redis://'", "`blacklist.redis.url`: "),
        ("url: 'redis://store/x'", "`blacklist.redis.url`: not an address"),
        ("url: 'rediss://store/#insecure'", "`blacklist.redis.url`: `#insecure`"),
        ("url: 'redis://store', ca_file: /nonexistent", "`blacklist.redis.ca_file`: means nothing"),
        ("url: 'rediss://store', ca_file: /nonexistent", "`blacklist.redis.ca_file`: /nonexistent"),
        (not_pem.as_str(), "holds no certificate"),
        ("sentinels: [one], master_name: m", "`blacklist.redis.sentinels`: [0] is not an address"),
        (
            "sentinels: ['one:1'], master_name: m, sentinel_password_file: /nonexistent",
            "`blacklist.redis.sentinel_password_file`: /nonexistent",
        ),
        (
            "url: 'redis://store', key_prefix: ':'",
            "`blacklist.redis.key_prefix`: must not be empty",
        ),
        ("url: 'redis://store', outbox: ''", "`blacklist.redis.outbox`: must not be empty"),
    ] {
        let complaint = complaint(yaml);
        assert!(complaint.contains(words), "{yaml}: {complaint}");
    }
}

#[test]
fn a_password_in_place_of_a_sentinel_or_a_file_is_not_shown() {
    for yaml in [
        "sentinels: ['a:1', 'u:hunter2@h:26379'], master_name: m",
        "sentinels: ['redis://u:hunter2@h'], master_name: m",
        "sentinels: ['hunter2'], master_name: m",
        "sentinels: ['a:1'], master_name: m, sentinel_password_file: hunter2",
        "url_file: 'redis://u:hunter2@h'",
        "url: 'redis://h', password_file: hunter2",
        "url: 'rediss://h', ca_file: 'redis://u:hunter2@h'",
    ] {
        let complaint = complaint(yaml);
        assert!(!complaint.contains("hunter2"), "{complaint}");
        assert!(complaint.starts_with("`blacklist.redis."), "{complaint}");
    }
}

#[test]
fn debug_shows_where_it_is_and_no_secret() {
    let redis = Redis::build(&config("url: 'redis://user:hush@store:6379'")).unwrap();
    assert_eq!(format!("{redis:?}"), "Redis(Connector(store:6379))");
}
