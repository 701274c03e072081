//! `kgit get`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::{Context, Output, print, print_json, print_yaml};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::object::{Named, Where, named};
use crate::client::http::{Client, JSON, TABLE, encoded};
use crate::kube::json::{items, text as text_at};
use crate::kube::resource_type::ResourceType;
use crate::kube::table::{Wide, aligned, aligned_with, lines};

/// Lists objects, or shows some of them
///
/// Kinds may be named as with kubectl: `pods`, `po`, `deploy/web`, `pods,services`, `all`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// KIND, KIND NAME… or KIND/NAME
    #[arg(required = true, value_name = "KIND [NAME]")]
    pub object: Vec<String>,
    #[command(flatten)]
    pub place: Where,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels: `app=web,tier!=db`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only objects with these fields: `status.phase=Running`
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// Go on with what changes
    #[arg(short, long)]
    pub watch: bool,
    /// In the order in which it was told, the newest last: of events.
    #[arg(skip)]
    pub by_time: bool,
}

pub async fn run(args: &GetArgs, context: &Context) -> Result<Exit, CliError> {
    let client = context.client()?;
    let named = named(&args.object)?;
    if args.watch {
        return args.watch(&client, &named, context.output).await;
    }
    match context.output {
        Output::Text | Output::Wide => args.tables(&client, &named, context.output).await?,
        Output::Yaml | Output::Json | Output::Name => {
            args.objects(&client, &named, context.output).await?;
        }
    }
    Ok(Exit::Success)
}

impl GetArgs {
    fn path(&self, ty: &ResourceType) -> String {
        let namespace = (!self.all_namespaces).then(|| self.place.namespace());
        let mut query: Vec<String> = Vec::new();
        let selectors =
            [("labelSelector", &self.selector), ("fieldSelector", &self.field_selector)];
        for (name, selector) in selectors {
            query.extend(selector.as_ref().map(|s| format!("{name}={}", encoded(s))));
        }
        if self.by_time {
            query.push("includeObject=Object".to_owned());
        }
        match query.is_empty() {
            true => ty.path(namespace),
            false => format!("{}?{}", ty.path(namespace), query.join("&")),
        }
    }

    /// One answer for each name, or one for the whole list.
    fn paths(&self, ty: &ResourceType, names: &[String]) -> Vec<String> {
        if names.is_empty() {
            return vec![self.path(ty)];
        }
        let list = ty.path(Some(self.place.namespace()));
        names.iter().map(|name| format!("{list}/{}", encoded(name))).collect()
    }

    async fn tables(&self, client: &Client, named: &Named, form: Output) -> Result<(), CliError> {
        let mut shown = Vec::new();
        for ty in &named.types {
            let mut whole: Option<Value> = None;
            for path in self.paths(ty, &named.names) {
                let table = client.get_as(&path, TABLE).await?;
                match &mut whole {
                    None => whole = Some(table),
                    Some(whole) => append(whole, table),
                }
            }
            let mut table = whole.unwrap_or_default();
            if self.by_time {
                sort_by_time(&mut table);
            }
            if named.types.len() > 1 {
                prefix_names(&mut table, ty);
            }
            if !items(&table, "/rows").is_empty() {
                shown.push(aligned(&self.lines(ty, &table, form)));
            }
        }
        if shown.is_empty() {
            match self.all_namespaces {
                true => eprintln!("No resources found"),
                false => eprintln!("No resources found in {} namespace.", self.place.namespace()),
            }
        }
        print(&shown.join("\n"))
    }

    fn lines(&self, ty: &ResourceType, table: &Value, form: Output) -> Vec<Vec<String>> {
        let wide = if form == Output::Wide { Wide::Yes } else { Wide::No };
        let namespaces = items(table, "/rows").iter();
        let namespaces =
            namespaces.map(|row| text_at(row, "/object/metadata/namespace").to_owned());
        let extra: Vec<(&str, Vec<String>)> = match self.all_namespaces && ty.namespaced {
            true => vec![("NAMESPACE", namespaces.collect())],
            false => Vec::new(),
        };
        lines(table, wide, &extra)
    }

    async fn objects(&self, client: &Client, named: &Named, form: Output) -> Result<(), CliError> {
        let mut objects = Vec::new();
        for ty in &named.types {
            for path in self.paths(ty, &named.names) {
                let answer = client.get_as(&path, JSON).await?;
                match answer.get("items").and_then(Value::as_array) {
                    Some(list) => objects.extend(list.iter().cloned()),
                    None => objects.push(answer),
                }
            }
        }
        let one = named.names.len() == 1 && objects.len() == 1;
        write(one, objects, form)
    }

    /// What is there, and then what changes. The list comes first and whole, so that the columns
    /// have their widths.
    async fn watch(&self, client: &Client, named: &Named, form: Output) -> Result<Exit, CliError> {
        let (ty, path) = self.watched(named)?;
        let as_table = matches!(form, Output::Text | Output::Wide);
        let accept = if as_table { TABLE } else { JSON };
        let list = client.get_as(&path, accept).await?;
        let mut widths = Vec::new();
        match as_table {
            true if items(&list, "/rows").is_empty() => {}
            true => print(&aligned_with(&mut widths, &self.lines(ty, &list, form)))?,
            false => items(&list, "/items")
                .iter()
                .try_for_each(|object| write(true, vec![object.clone()], form))?,
        }
        let joined = if path.contains('?') { "&" } else { "?" };
        let version = encoded(text_at(&list, "/metadata/resourceVersion"));
        let path = format!("{path}{joined}watch=true&resourceVersion={version}");
        let mut events = client.watch(&path, accept).await?;
        while let Some(event) = events.next().await? {
            if text_at(&event, "/type") == "ERROR" {
                let message = text_at(&event, "/object/message").to_owned();
                return Err(CliError::usage(message, "start the watch again"));
            }
            let object = event.get("object").cloned().unwrap_or_default();
            match as_table {
                true => {
                    // The titles are printed once, above the first row.
                    let skipped = usize::from(!widths.is_empty());
                    print(&aligned_with(&mut widths, &self.lines(ty, &object, form)[skipped..]))?;
                }
                false => write(true, vec![object], form)?,
            }
        }
        Ok(Exit::Success)
    }

    /// The one type that is watched, and the path of the list.
    fn watched(&self, named: &Named) -> Result<(&'static ResourceType, String), CliError> {
        let [ty] = named.types.as_slice() else {
            return Err(CliError::usage(
                "one watch is of one kind",
                "name one: `kgit get pods -w`",
            ));
        };
        match named.names.as_slice() {
            [] => Ok((ty, self.path(ty))),
            [name] => {
                let list = ty.path(Some(self.place.namespace()));
                Ok((ty, format!("{list}?fieldSelector=metadata.name%3D{}", encoded(name))))
            }
            _ => Err(CliError::usage("one watch is of one object or of all", "name one, or none")),
        }
    }
}

fn write(one: bool, mut objects: Vec<Value>, form: Output) -> Result<(), CliError> {
    if form == Output::Name {
        let names = objects.iter().map(|object| format!("{}\n", name_of(object)));
        return print(&names.collect::<String>());
    }
    let value = match one {
        true => objects.remove(0),
        false => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
    };
    match form {
        Output::Yaml => print_yaml(&value),
        Output::Json | Output::Text | Output::Wide | Output::Name => print_json(&value),
    }
}

/// Sorts a table of events. What was told within a second is in the order of the names, which
/// hold the exact time behind their last dot.
fn sort_by_time(table: &mut Value) {
    let rows = table.get_mut("rows").and_then(Value::as_array_mut);
    let when = |row: &Value| {
        let name = text_at(row, "/object/metadata/name");
        let exact = name.rsplit('.').next().unwrap_or_default().to_owned();
        (text_at(row, "/object/lastTimestamp").to_owned(), exact)
    };
    rows.into_iter().for_each(|rows| rows.sort_by_key(when));
}

fn append(whole: &mut Value, table: Value) {
    let rows = items(&table, "/rows").to_vec();
    if let Some(Value::Array(all)) = whole.get_mut("rows") {
        all.extend(rows);
    }
}

fn prefix_names(table: &mut Value, ty: &ResourceType) {
    let prefix = qualified(ty.singular, ty.group);
    let Some(Value::Array(rows)) = table.get_mut("rows") else { return };
    for cell in rows.iter_mut().filter_map(|row| row.pointer_mut("/cells/0")) {
        *cell = json!(format!("{prefix}/{}", cell.as_str().unwrap_or_default()));
    }
}

fn qualified(singular: &str, group: &str) -> String {
    if group.is_empty() { singular.to_owned() } else { format!("{singular}.{group}") }
}

fn name_of(object: &Value) -> String {
    let group = text_at(object, "/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    let kind = text_at(object, "/kind").to_lowercase();
    format!("{}/{}", qualified(&kind, group), text_at(object, "/metadata/name"))
}
