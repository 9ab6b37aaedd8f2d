//! no_providers: what stands in the place of `providers` in a program that was built without them.

use super::show::Change;
use portunus_relay::plan::DnsProvider;

/// The program cannot speak with providers of DNS.
pub const HAS_PROVIDERS: bool = false;

/// Refuses. No configuration comes so far: it is refused for naming a provider.
pub async fn change(plan: &DnsProvider, _: Change, _: &str, _: &str) -> Result<(), String> {
    Err(format!("this program was built without providers of DNS, and `{}` is one", plan.name))
}
