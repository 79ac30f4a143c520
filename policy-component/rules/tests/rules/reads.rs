//! Tests of manifests: rules ask for no more than they read.

use portcullis_policy::{Manifest, Parts};

use crate::settings::manifest;

#[test]
fn rules_ask_for_what_they_read_and_for_nothing_else() {
    let plain = manifest(
        "rules: [{match: {paths: [/a], claims: [{claim: sub, present: true}]}, effect: allow}]",
    );
    assert_eq!(plain.unwrap(), Manifest::new());

    let full = manifest(
        "rules:
          - match:
              headers: [{name: X-Tenant, equals: acme}]
              claims: [{claim: realm_access.roles, contains: admin}, {claim: tier, equals: 1}]
              context: {a: b}
            effect: deny
          - match: {not: {claims: [{claim: [realm_access, roles], contains: user}]}}
            effect:
              allow:
                set_request_headers:
                  x-tenant: {header: x-tenant}
                  x-from: {request: source_principal}
                  x-mail: [{claim: email}, {claim: iss}]",
    );
    let expected = Manifest::new()
        .with_header("x-tenant")
        .with_claim(["realm_access", "roles"])
        .with_claim(["tier"])
        .with_claim(["email"])
        .with_parts(Parts::CONTEXT | Parts::SOURCE);
    assert_eq!(full.unwrap(), expected);
}
