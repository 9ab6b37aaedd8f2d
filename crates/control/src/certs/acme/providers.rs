//! providers: records in the DNS by the providers that `dns-update` speaks with.

use super::show::Change;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dns_update::providers::azuredns::{AzureDnsConfig, AzureEnvironment};
use dns_update::providers::google_cloud_dns::GoogleCloudDnsConfig;
use dns_update::providers::ovh::OvhEndpoint;
use dns_update::providers::route53::Route53Config;
use dns_update::{DnsRecord, DnsRecordType, DnsUpdater, Error, TsigAlgorithm};
use portunus_config::SECRETS;
use portunus_relay::plan::DnsProvider;
use std::time::Duration;

/// The program can speak with providers of DNS itself.
pub const HAS_PROVIDERS: bool = true;
/// How long a provider may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long a change may take in all.
const CHANGE_TIME: Duration = Duration::from_secs(120);
/// Guards all changes: they go one after the other.
static CHANGES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// How long others may remember the record, in seconds.
const TTL: u32 = 60;

/// Puts the record there, or takes it away. Other values that stand at the same name stay.
pub async fn change(plan: &DnsProvider, change: Change, record: &str, value: &str) -> Result<(), String> {
    let name = record.trim_end_matches('.');
    let zones = match &plan.zone {
        Some(zone) => vec![zone.as_str()],
        None => zones(name.trim_start_matches("_acme-challenge.")),
    };
    let updater = updater(plan)?;
    let work = async {
        // Some are asked what is there and told all of it again: two at a time would take each other's away.
        let _one_at_a_time = CHANGES.lock().await;
        let mut last = None;
        for zone in zones {
            let records = vec![DnsRecord::TXT(value.to_owned())];
            let result = match change {
                Change::Present => updater.add_to_rrset(name, DnsRecordType::TXT, TTL, records, zone).await,
                Change::Cleanup => updater.remove_from_rrset(name, DnsRecordType::TXT, records, zone).await,
            };
            match result {
                Ok(()) => return Ok(()),
                // Another zone would not help.
                Err(error @ (Error::Unauthorized | Error::Client(_) | Error::InvalidRegion)) => {
                    return Err((zone, error));
                }
                Err(error) => last = Some((zone, error)),
            }
        }
        last.map_or(Ok(()), Err)
    };
    match tokio::time::timeout(CHANGE_TIME, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err((zone, error))) => {
            let error = without_secrets(&error.to_string(), plan);
            Err(format!("`{}` does not change `{name}` in the zone `{zone}`: {error}", plan.name))
        }
        Err(_) => Err(format!("`{}` has not changed `{name}` within {} s", plan.name, CHANGE_TIME.as_secs())),
    }
}

/// What a provider has said, without what it was told: some take keys in their URLs.
fn without_secrets(said: &str, plan: &DnsProvider) -> String {
    let no_query = |word: &str| match word.split_once('?') {
        Some((url, _)) if url.contains("://") => format!("{url}?…"),
        _ => word.to_owned(),
    };
    let mut said = said.split(' ').map(no_query).collect::<Vec<_>>().join(" ");
    for (_, secret) in plan.settings.iter().filter(|(key, _)| SECRETS.contains(&key.as_str())) {
        if !secret.value.is_empty() {
            said = said.replace(&secret.value, "…");
        }
    }
    said
}

/// The zones that a name may be in, the longest first; a top-level domain is nobody's to change.
fn zones(name: &str) -> Vec<&str> {
    let parents = std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent));
    parents.filter(|zone| zone.contains('.') || *zone == name).collect()
}

/// What speaks with the provider.
fn updater(plan: &DnsProvider) -> Result<DnsUpdater, String> {
    let may_be = |key: &str| plan.settings.get(key).map(|text| text.value.as_str());
    // Empty only where the configuration was not checked.
    let is = |key: &str| may_be(key).unwrap_or("");
    let time = Some(ANSWER_TIME);
    match plan.name.as_str() {
        "alidns" => {
            let none = None::<&str>;
            DnsUpdater::new_alidns(is("key"), is("secret"), may_be("region"), none, none, time)
        }
        "arvancloud" => DnsUpdater::new_arvancloud(is("key"), time),
        "autodns" => DnsUpdater::new_autodns(is("user"), is("password"), None, time),
        "azure" => DnsUpdater::new_azuredns(AzureDnsConfig {
            tenant_id: is("tenant").to_owned(),
            client_id: is("user").to_owned(),
            client_secret: is("secret").to_owned(),
            subscription_id: is("account").to_owned(),
            resource_group: is("group").to_owned(),
            environment: AzureEnvironment::Public,
            request_timeout: time,
        }),
        "baiducloud" => DnsUpdater::new_baiducloud(is("key"), is("secret"), time),
        "bunny" => DnsUpdater::new_bunny(is("key"), time),
        "cloudflare" => DnsUpdater::new_cloudflare(is("token"), time),
        "cloudns" => DnsUpdater::new_cloudns(Some(is("user")), None::<&str>, is("password"), time),
        "constellix" => DnsUpdater::new_constellix(is("key"), is("secret"), time),
        "desec" => DnsUpdater::new_desec(is("token"), time),
        "digitalocean" => DnsUpdater::new_digitalocean(is("token"), time),
        "dnsimple" => DnsUpdater::new_dnsimple(is("token"), is("account"), time),
        "dnsmadeeasy" => DnsUpdater::new_dnsmadeeasy(is("key"), is("secret"), time),
        "domeneshop" => DnsUpdater::new_domeneshop(is("token"), is("secret"), time),
        "dreamhost" => DnsUpdater::new_dreamhost(is("key"), time),
        "dynu" => DnsUpdater::new_dynu(is("key"), time),
        "easydns" => DnsUpdater::new_easydns(is("token"), is("key"), time),
        "exoscale" => DnsUpdater::new_exoscale(is("key"), is("secret"), time),
        "gandi" => DnsUpdater::new_gandiv5(is("token"), time),
        "gcore" => DnsUpdater::new_gcore(is("token"), time),
        "glesys" => DnsUpdater::new_glesys(is("user"), is("key"), time),
        "godaddy" => DnsUpdater::new_godaddy(is("key"), is("secret"), time),
        "google" => DnsUpdater::new_google_cloud_dns(GoogleCloudDnsConfig {
            service_account_json: is("key").to_owned(),
            project_id: is("account").to_owned(),
            managed_zone: None,
            private_zone: false,
            impersonate_service_account: None,
            request_timeout: time,
        }),
        "hetzner" => DnsUpdater::new_hetzner(is("token"), time),
        "hostingde" => DnsUpdater::new_hostingde(is("key"), time),
        "hostinger" => DnsUpdater::new_hostinger(is("token"), time),
        "huaweicloud" => DnsUpdater::new_huaweicloud(is("key"), is("secret"), is("region"), time),
        "infomaniak" => DnsUpdater::new_infomaniak(is("token"), time),
        "inwx" => DnsUpdater::new_inwx(is("user"), is("password"), false, time),
        "ionos" => DnsUpdater::new_ionos(is("key"), time),
        "linode" => DnsUpdater::new_linode(is("token"), time),
        "luadns" => DnsUpdater::new_luadns(is("user"), is("token"), time),
        "mythicbeasts" => DnsUpdater::new_mythicbeasts(is("user"), is("password"), time),
        "namecheap" => DnsUpdater::new_namecheap(is("user"), is("key"), is("client-ip"), None::<&str>, time),
        "namedotcom" => DnsUpdater::new_namedotcom(is("user"), is("token"), time),
        "namesilo" => DnsUpdater::new_namesilo(is("key"), time),
        "netcup" => DnsUpdater::new_netcup(is("account"), is("key"), is("password"), time),
        "netlify" => DnsUpdater::new_netlify(is("token"), time),
        "nifcloud" => DnsUpdater::new_nifcloud(is("key"), is("secret"), time),
        "ns1" => DnsUpdater::new_ns1(is("key"), time),
        "ovh" => {
            let endpoint = match may_be("region").unwrap_or("eu") {
                "eu" => OvhEndpoint::OvhEu,
                "us" => OvhEndpoint::OvhUs,
                "ca" => OvhEndpoint::OvhCa,
                other => return Err(format!("`ovh` has no `region={other}`, but `eu`, `us` and `ca`")),
            };
            DnsUpdater::new_ovh(is("key"), is("secret"), is("token"), endpoint, time)
        }
        "porkbun" => DnsUpdater::new_porkbun(is("key"), is("secret"), time),
        "powerdns" => DnsUpdater::new_pdns(is("key"), may_be("server"), may_be("account"), time),
        "rfc2136" => {
            let algorithm = may_be("algorithm").unwrap_or("hmac-sha256");
            let algorithm: TsigAlgorithm =
                algorithm.parse().map_err(|()| format!("`rfc2136` has no `algorithm={algorithm}`"))?;
            let secret = BASE64_STANDARD.decode(is("secret"));
            let secret = secret.map_err(|_| "the `secret=` of `rfc2136` is not base64".to_owned())?;
            let server = is("server");
            let server = if server.contains("://") { server.to_owned() } else { format!("tcp://{server}") };
            DnsUpdater::new_rfc2136_tsig(server, is("key"), secret, algorithm)
        }
        "route53" => DnsUpdater::new_route53(Route53Config {
            access_key_id: is("key").to_owned(),
            secret_access_key: is("secret").to_owned(),
            session_token: may_be("token").map(str::to_owned),
            region: may_be("region").map(str::to_owned),
            hosted_zone_id: None,
            private_zone_only: None,
            endpoint: None,
        }),
        "scaleway" => DnsUpdater::new_scaleway(is("token"), time),
        "simplycom" => DnsUpdater::new_simplycom(is("account"), is("key"), time),
        "spaceship" => DnsUpdater::new_spaceship(is("key"), is("secret"), time),
        "tencentcloud" => {
            DnsUpdater::new_tencentcloud(is("key"), is("secret"), may_be("region"), None::<&str>, time)
        }
        "transip" => DnsUpdater::new_transip(is("user"), is("key"), false, time),
        "ultradns" => {
            let server = may_be("server").map(str::to_owned);
            DnsUpdater::new_ultradns(is("user"), is("password"), server, time)
        }
        "vercel" => DnsUpdater::new_vercel(is("token"), may_be("account"), time),
        "vultr" => DnsUpdater::new_vultr(is("key"), time),
        "websupport" => DnsUpdater::new_websupport(is("key"), is("secret"), time),
        "zoneeu" => DnsUpdater::new_zoneeu(is("user"), is("key"), time),
        other => return Err(format!("`{other}` is no provider of DNS that is known")),
    }
    .map_err(|error| format!("`{}` cannot be spoken with: {error}", plan.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use portunus_config::PROVIDERS;
    use portunus_relay::plan::Text;

    fn plan(name: &str, settings: &[(&str, &str)]) -> DnsProvider {
        let text = |&(key, value): &(&str, &str)| (key.to_owned(), Text::plain(value));
        let settings = settings.iter().map(text).collect();
        DnsProvider { name: name.to_owned(), zone: None, settings, wait: Duration::ZERO }
    }

    #[tokio::test]
    async fn every_provider_that_may_be_written_is_known() {
        for provider in PROVIDERS {
            let keys = provider.needs.iter().chain(provider.takes);
            let settings: Vec<(&str, &str)> = keys.map(|key| (*key, of(provider.name, key))).collect();
            let made = updater(&plan(provider.name, &settings));
            assert!(made.is_ok(), "{:?}", made.err());
        }
    }

    /// Something that a setting may be.
    fn of(provider: &str, key: &str) -> &'static str {
        match (provider, key) {
            (_, "server") => "127.0.0.1:53",
            (_, "algorithm") => "hmac-sha512",
            ("rfc2136", "secret") => "a2V5",
            _ => "eu",
        }
    }

    #[test]
    fn what_a_provider_was_told_is_not_said_again() {
        let plan = plan("dreamhost", &[("key", "s3cret/x"), ("user", "me")]);
        let said = "Failed to send request to https://api.example/?key=s3cret%2Fx&me: refused s3cret/x, me";
        let told = without_secrets(said, &plan);
        assert_eq!(told, "Failed to send request to https://api.example/?… refused …, me");
    }

    #[test]
    fn every_part_of_a_name_may_be_the_zone_but_for_the_last_label() {
        assert_eq!(zones("www.b.example"), ["www.b.example", "b.example"]);
        assert_eq!(zones("localhost"), ["localhost"]);
    }

    #[tokio::test]
    async fn what_cannot_be_a_setting_is_told() {
        let wrong = |name, settings: &[(&str, &str)]| updater(&plan(name, settings)).err().unwrap();
        let key = [("server", "127.0.0.1:1"), ("key", "k"), ("secret", "?")];
        assert!(wrong("rfc2136", &key).contains("base64"));
        let algorithm = [("server", "127.0.0.1:1"), ("secret", "a2V5"), ("algorithm", "rot13")];
        assert!(wrong("rfc2136", &algorithm).contains("rot13"));
        assert!(wrong("ovh", &[("region", "mars")]).contains("`eu`"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_once() {
        let nobody = plan("powerdns", &[("server", "http://127.0.0.1:1"), ("key", "k")]);
        let error = change(&nobody, Change::Present, "_acme-challenge.a.b.example.", "v").await.unwrap_err();
        assert!(error.contains("`powerdns` does not change `_acme-challenge.a.b.example`"), "{error}");
    }
}
