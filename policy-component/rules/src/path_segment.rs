//! Path segment condition: a named segment of the path must agree with a claim.

use alloc::{boxed::Box, format};

use portcullis_policy::{Parts, Request, SettingsError};

use crate::{
    claim::ClaimRef,
    field::Field,
    inputs::Inputs,
    path::{self, PathTemplate, PathTemplates},
};

/// A named segment and the claim to compare it with.
#[derive(Debug)]
pub(crate) struct SegmentCondition {
    name: Box<str>,
    claim: ClaimRef,
    /// Whether the claim lists what is permitted, rather than being it.
    among: bool,
    case: Case,
}

/// What the case of letters counts.
#[derive(Debug, Clone, Copy)]
enum Case {
    /// The path arrives as sent.
    Kept,
    /// The path arrives in lower case, and the upstream distinguishes `Alice` from `alice`.
    AsSent,
    /// The upstream does not.
    Ignored,
}

impl SegmentCondition {
    /// Reads `{name: user_id, equals_claim: sub}`. `named` are the templates that name segments.
    pub(crate) fn read(
        field: &Field<'_>,
        named: Option<&PathTemplates>,
        inputs: &mut Inputs,
    ) -> Result<Self, SettingsError> {
        let object = field.object(&["name", "equals_claim", "in_claim", "ignore_case"])?;
        let name_field = object.require("name", "the name of a segment, such as `user_id`")?;
        let name = name_field.text()?;
        if !named.is_some_and(|templates| templates.all_have(name)) {
            return Err(name_field.refuse(format!(
                "is not a segment of every template in `path_templates`; write `{{{name}}}` in each"
            )));
        }
        let options = inputs.paths;
        let mut case = if options.ignore_case { Case::AsSent } else { Case::Kept };
        if let Some(field) = object.get("ignore_case") {
            if !options.ignore_case {
                return Err(field.refuse(
                    "needs `paths: {ignore_case: true}` beside `rules` and in the configuration; \
                     remove it, or write those",
                ));
            }
            if field.boolean()? {
                case = Case::Ignored;
            }
        }
        if matches!(case, Case::AsSent) {
            inputs.part(Parts::RAW_PATH);
        }
        let (key, field) = object.only(&["equals_claim", "in_claim"])?;
        let claim = ClaimRef::read(&field, inputs)?;
        Ok(Self { name: name.into(), claim, among: key == "in_claim", case })
    }

    /// Whether they agree. `matched` is the template that the path matched.
    pub(crate) fn holds(&self, request: &Request, matched: Option<&PathTemplate>) -> bool {
        let Some(template) = matched else { return false };
        match self.case {
            Case::Kept => self.agrees(request, template, &request.path, str::eq),
            Case::Ignored => {
                self.agrees(request, template, &request.path, str::eq_ignore_ascii_case)
            }
            Case::AsSent => path::as_sent(request)
                .is_some_and(|path| self.agrees(request, template, &path, str::eq)),
        }
    }

    fn agrees(
        &self,
        request: &Request,
        template: &PathTemplate,
        path: &str,
        equal: fn(&str, &str) -> bool,
    ) -> bool {
        let segment = template.segment(&self.name, path);
        let segment = segment.and_then(path::unescape);
        let claim = self.claim.find(request.identity.as_ref());
        let (Some(segment), Some(claim)) = (segment, claim) else { return false };
        if self.among {
            claim.contains_text(&segment, equal)
        } else {
            claim.is_written(&segment, equal)
        }
    }
}
