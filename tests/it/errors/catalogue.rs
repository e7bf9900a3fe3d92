//! Reads the errors out of a file of Rust: `CliError::new(code, message).hint(…)` and its relatives, and
//! the texts of `#[error("…")]`.
//!
//! It follows what a reader follows without leaving the function: literals, `format!`, a `let` above, the
//! arms of an `if` or `match`. Anything else is `{name}`.

use std::collections::BTreeMap;

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprCall, ExprMethodCall, Lit, Pat, Token};

/// What constructs an error that a person sees, and at which argument its message is.
const CONSTRUCTORS: [(&str, usize); 3] = [("CliError", 1), ("DriverError", 1), ("Bad", 0)];

/// One error.
pub struct Found {
    /// Its code or kind, as programs have it; `cause`: it explains another.
    pub kind: String,
    /// The message; `{…}` is what is filled in.
    pub message: String,
    /// What to do.
    pub hints: Vec<String>,
}

/// The errors of a file, in its order.
pub fn of_file(text: &str) -> Vec<Found> {
    let file = syn::parse_file(text).expect("Rust");
    let mut reader = Reader::default();
    reader.visit_file(&file);
    reader.found
}

#[derive(Default)]
struct Reader {
    found: Vec<Found>,
    /// Texts by the names of constants, and of variables of the function that is read.
    names: BTreeMap<String, String>,
    /// Hints that are given to an error that was made before, in the function that is read.
    loose: Vec<String>,
}

impl Reader {
    fn function(&mut self, read: impl FnOnce(&mut Self)) {
        let names = self.names.clone();
        let loose = std::mem::take(&mut self.loose);
        let first = self.found.len();
        read(self);
        let own = std::mem::replace(&mut self.loose, loose);
        self.names = names;
        for error in self.found[first..].iter_mut().filter(|found| found.hints.is_empty()) {
            if error.kind != "cause" {
                error.hints.clone_from(&own);
            }
        }
    }

    /// Records the error that a chain of calls makes, if it makes one.
    fn chain(&mut self, mut expression: &Expr) -> bool {
        let mut hints = Vec::new();
        while let Expr::MethodCall(call) = expression {
            if call.method == "hint" {
                hints.extend(call.args.first().map(|hint| self.text(hint)));
            }
            expression = &call.receiver;
        }
        hints.reverse();
        let Expr::Call(call) = expression else { return false };
        let Some(at) = constructor(call) else { return false };
        let kind = match at {
            0 => "config".to_owned(),
            _ => call.args.first().map_or_else(String::new, |code| self.kind(code)),
        };
        let message = call.args.get(at).map_or_else(String::new, |message| self.text(message));
        self.found.push(Found { kind, message, hints });
        true
    }

    /// `ExitCode::NotFound` is `not-found`.
    fn kind(&self, code: &Expr) -> String {
        let text = self.text(code);
        let name = text.trim_matches(['{', '}']);
        let mut out = String::new();
        for c in name.chars() {
            if c.is_uppercase() && !out.is_empty() && !out.ends_with(' ') {
                out.push('-');
            }
            out.extend(c.to_lowercase());
        }
        out
    }

    fn text(&self, expression: &Expr) -> String {
        match expression {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => text.value(),
                _ => "{}".to_owned(),
            },
            Expr::Macro(call) => macro_text(&call.mac).unwrap_or_else(|| "{}".to_owned()),
            Expr::Path(path) => {
                let name = path.path.segments.last().map(|last| last.ident.to_string());
                let name = name.unwrap_or_default();
                self.names.get(&name).cloned().unwrap_or_else(|| format!("{{{name}}}"))
            }
            Expr::Reference(inner) => self.text(&inner.expr),
            Expr::Paren(inner) => self.text(&inner.expr),
            Expr::MethodCall(call) => self.text(&call.receiver),
            Expr::Field(field) => match &field.member {
                syn::Member::Named(name) => format!("{{{name}}}"),
                syn::Member::Unnamed(_) => "{}".to_owned(),
            },
            Expr::Call(call) => match &*call.func {
                // `visible(text)` and the like.
                Expr::Path(path) => {
                    let name = path.path.segments.last().map(|last| last.ident.to_string());
                    format!("{{{}}}", name.unwrap_or_default())
                }
                _ => "{}".to_owned(),
            },
            Expr::If(choice) => {
                let otherwise = choice.else_branch.as_ref().map(|(_, other)| self.text(other));
                let first = self.block(&choice.then_branch);
                [Some(first), otherwise].into_iter().flatten().collect::<Vec<_>>().join(" | ")
            }
            Expr::Match(choice) => {
                let arms = choice.arms.iter().map(|arm| self.text(&arm.body));
                arms.collect::<Vec<_>>().join(" | ")
            }
            Expr::Block(block) => self.block(&block.block),
            _ => "{}".to_owned(),
        }
    }

    fn block(&self, block: &syn::Block) -> String {
        match block.stmts.last() {
            Some(syn::Stmt::Expr(last, None)) => self.text(last),
            _ => "{}".to_owned(),
        }
    }
}

/// Where the message is in the arguments of the call, if it constructs an error.
fn constructor(call: &ExprCall) -> Option<usize> {
    let Expr::Path(path) = &*call.func else { return None };
    let names: Vec<String> =
        path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    let [.., of, name] = names.as_slice() else { return None };
    let found = CONSTRUCTORS.iter().find(|(known, _)| known == of && name == "new");
    found.map(|(_, at)| *at)
}

/// The first literal of `format!` and the like.
fn macro_text(mac: &syn::Macro) -> Option<String> {
    let arguments = mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated).ok()?;
    match arguments.first()? {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let nested = attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"));
        nested || attribute.path().is_ident("test")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        let text = self.text(&item.expr);
        self.names.insert(item.ident.to_string(), text);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(|reader| visit::visit_item_fn(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(|reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        visit::visit_local(self, local);
        if let (Pat::Ident(name), Some(init)) = (&local.pat, &local.init) {
            let text = self.text(&init.expr);
            // What is no text is better called by its name.
            if text != "{}" && !text.starts_with('{') {
                self.names.insert(name.ident.to_string(), text);
            }
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if self.chain(&Expr::MethodCall(call.clone())) {
            return;
        }
        if call.method == "hint" && !call.args.is_empty() {
            let hints = call.args.iter().map(|hint| self.text(hint)).collect::<Vec<_>>();
            self.loose.extend(hints);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if !self.chain(&Expr::Call(call.clone())) {
            visit::visit_expr_call(self, call);
        }
    }

    fn visit_expr_field(&mut self, field: &'ast syn::ExprField) {
        if let syn::Member::Named(name) = &field.member
            && name == "hints"
        {
            self.loose.push("{hints}".to_owned());
        }
        visit::visit_expr_field(self, field);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if !attribute.path().is_ident("error") {
            return;
        }
        let arguments = attribute.parse_args_with(Punctuated::<Expr, Token![,]>::parse_terminated);
        if let Ok(arguments) = arguments
            && let Some(Expr::Lit(literal)) = arguments.first()
            && let Lit::Str(text) = &literal.lit
        {
            self.found.push(Found {
                kind: "cause".to_owned(),
                message: text.value(),
                hints: Vec::new(),
            });
        }
    }
}
