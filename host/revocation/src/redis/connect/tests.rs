//! What a connector makes of its configuration, and of files that change.

use std::{path::Path, time::Duration};

use super::*;
use crate::{
    config::Config,
    redis::fake::{Fake, Kept},
};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_mins(1);

/// A certificate that signs itself. Its key is in no place.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUJSNxDZpwnO8MZZAJYz2kwwg4uJEwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjgyMTAxMjhaGA8yMTI2MTEwNDIxMDEy
OFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABGuW
fZc//86a6k1CdXyqFNu77aIDth/e3483r63/7x6Oc8SWiwabH7jj7LfFuXUSxsdM
tN9vCQ7aszld5mmMetejUzBRMB0GA1UdDgQWBBQ3K9UVV02ErZpYtiXigKOsLwLr
jDAfBgNVHSMEGDAWgBQ3K9UVV02ErZpYtiXigKOsLwLrjDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIQDB6JPG4/vEA8pVRkVIFPTosGDqRxGNtA2c
V+BK4HYlhQIgA3GwlhfyixqrOpWZDaDzkdl/nOaLgtxJc2K7CWWEzoU=
-----END CERTIFICATE-----
";

fn connector(yaml: &str) -> RedisConnector {
    let config: Config = serde_saphyr::from_str(&format!("redis: {{ {yaml} }}")).unwrap();
    RedisConnector::new(&config.redis.unwrap()).unwrap()
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_changed_password_is_read_again_and_an_unreadable_one_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    write(&file, "old");
    let fake = Fake::start().await;
    fake.change(|script| script.password = Some("old"));
    let kept = Kept::at(fake.address, &format!(", password_file: '{}'", file.display()));
    assert_eq!(kept.redis.ping(LONG).await, Ok(()));
    fake.change(|script| script.password = Some("new"));
    write(&file, "new\n");
    fake.cut();
    assert_eq!(kept.redis.ping(LONG).await, Ok(()));
    assert_eq!(fake.commands("AUTH").last().unwrap(), "AUTH new");
    for lose in [|file: &Path| write(file, ""), |file: &Path| std::fs::remove_file(file).unwrap()] {
        lose(&file);
        fake.cut();
        assert_eq!(kept.redis.ping(LONG).await, Ok(()));
        assert_eq!(fake.commands("AUTH").last().unwrap(), "AUTH new");
    }
}

#[tokio::test]
async fn an_address_that_was_changed_is_read_again() {
    let (one, other) = (Fake::start().await, Fake::start().await);
    let file = tempfile::NamedTempFile::new().unwrap();
    write(file.path(), &format!("redis://{}", one.address));
    let kept = Kept::start(&format!("url_file: '{}'", file.path().display()));
    assert_eq!(kept.redis.ping(LONG).await, Ok(()));
    write(file.path(), &format!("redis://{}", other.address));
    one.cut();
    assert_eq!(kept.redis.ping(LONG).await, Ok(()));
    assert_eq!((one.connections(), other.connections()), (2, 2));
}

#[tokio::test]
async fn changed_certificates_are_read_again_and_unusable_ones_are_ignored() {
    let file = tempfile::NamedTempFile::new().unwrap();
    write(file.path(), CERTIFICATE);
    let yaml = format!("url: 'rediss://store', ca_file: '{}'", file.path().display());
    let connector = connector(&yaml);
    let before = connector.settings();
    write(file.path(), "no certificate");
    connector.refresh().await;
    assert!(Arc::ptr_eq(&before, &connector.settings()));
    let error = ConnectSettings::read(&connector.config).map(drop).unwrap_err().to_string();
    assert!(error.contains("`blacklist.redis.ca_file`"), "{error}");
    assert_eq!(connector.log.admit(&error, Duration::MAX), None, "it was logged");
    write(file.path(), CERTIFICATE);
    connector.refresh().await;
    assert!(!Arc::ptr_eq(&before, &connector.settings()));
    assert!(connector.log.is_clear());
}

#[tokio::test]
async fn a_replica_is_not_taken_for_the_primary() {
    let fake = Fake::start().await;
    fake.change(|script| script.is_primary = false);
    let connected = connector(&format!("url: 'redis://{}'", fake.address)).connect().await;
    let error = connected.map(drop).unwrap_err().to_string();
    assert!(error.contains("it is a replica; give the address of the primary"), "{error}");
    let sentinel = Fake::sentinel(fake.address).await;
    let yaml = format!("sentinels: ['{}'], master_name: m", sentinel.address);
    let error = connector(&yaml).connect().await.map(drop).unwrap_err().to_string();
    assert!(error.contains("the sentinels name it, but it is not the primary"), "{error}");
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
        let config: Config = serde_saphyr::from_str(&format!("redis: {{ {yaml} }}")).unwrap();
        let refused = RedisConnector::new(&config.redis.unwrap());
        let logged_error = refused.map(drop).unwrap_err().to_string();
        assert!(!logged_error.contains("hunter2"), "{logged_error}");
        assert!(logged_error.starts_with("`blacklist.redis."), "{logged_error}");
    }
}

#[test]
fn debug_shows_where_it_is_and_no_secret() {
    let connector = connector("url: 'redis://user:hush@store:6379'");
    assert_eq!(format!("{connector:?}"), "RedisConnector(store:6379)");
}
