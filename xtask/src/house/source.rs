//! The modules of a crate's target, as the compiler finds them from its root, without what is compiled for tests only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::visit::Visit;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// A library or an executable.
pub struct Target {
    /// Of the package; relative to the root of the workspace.
    pub folder: PathBuf,
    pub files: Vec<File>,
    /// The first one is the root.
    pub modules: Vec<Module>,
}

pub struct File {
    /// Relative to the root of the workspace.
    pub path: PathBuf,
}

/// A module: a file, or a part of one.
pub struct Module {
    pub parent: Option<usize>,
    pub file: usize,
    /// Definitions of a name: there is more than one where `cfg` chooses, and in different name spaces.
    pub names: HashMap<String, Vec<Definition>>,
    pub globs: Vec<Glob>,
    /// Its items, without modules in it and imports.
    pub items: Vec<Item>,
    /// Items that are visible outside of the module, by their names.
    pub public: Vec<String>,
}

pub enum Definition {
    Item,
    Module(usize),
    Import(Import),
}

pub struct Import {
    pub path: Vec<String>,
    pub line: usize,
    /// An import with a visibility is another name for an item, and no use of it.
    pub is_reexport: bool,
}

pub struct Glob {
    pub path: Vec<String>,
    pub line: usize,
}

/// Where the text of a module is: of files, for the compiler; of made-up sources, for tests.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The library and the executables of a package.
pub fn targets(root: &Path, folder: &Path) -> Vec<Result<Target, String>> {
    let source = folder.join("src");
    let mut roots = vec![source.join("lib.rs"), source.join("main.rs")];
    if let Ok(entries) = std::fs::read_dir(root.join(&source).join("bin")) {
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
        roots.extend(names.map(|name| source.join("bin").join(name)));
    }
    let read = |path: &Path| std::fs::read_to_string(root.join(path)).ok();
    let roots = roots.into_iter().filter(|path| root.join(path).is_file());
    roots
        .map(|path| Target::parse(folder, &path, &read))
        .collect()
}

impl Target {
    /// Reads the file, and the files of the modules that it declares.
    pub fn parse(folder: &Path, root: &Path, read: Read<'_>) -> Result<Self, String> {
        let mut target = Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            modules: Vec::new(),
        };
        let text = read(root).ok_or_else(|| format!("{} cannot be read", root.display()))?;
        let children = root.parent().unwrap_or(Path::new("")).to_owned();
        let mut loader = Loader {
            target: &mut target,
            read,
        };
        loader.load(root, &text, None, &children)?;
        Ok(target)
    }

    pub fn file_of(&self, module: usize) -> usize {
        self.modules[module].file
    }
}

struct Loader<'a> {
    target: &'a mut Target,
    read: Read<'a>,
}

impl Loader<'_> {
    /// A file, whose modules are in the folder `children`.
    fn load(
        &mut self,
        path: &Path,
        text: &str,
        parent: Option<usize>,
        children: &Path,
    ) -> Result<usize, String> {
        let parsed = syn::parse_file(text);
        let mut parsed =
            parsed.map_err(|e| format!("{}:{}: {e}", path.display(), e.span().start().line))?;
        WithoutTests.visit_file_mut(&mut parsed);
        let file = self.target.files.len();
        self.target.files.push(File {
            path: path.to_owned(),
        });
        let module = self.begin(parent, file);
        self.fill(module, parsed.items, children)?;
        Ok(module)
    }

    fn begin(&mut self, parent: Option<usize>, file: usize) -> usize {
        self.target.modules.push(Module {
            parent,
            file,
            names: HashMap::new(),
            globs: Vec::new(),
            items: Vec::new(),
            public: Vec::new(),
        });
        self.target.modules.len() - 1
    }

    fn fill(&mut self, module: usize, items: Vec<Item>, children: &Path) -> Result<(), String> {
        for item in items {
            match item {
                Item::Mod(child) => self.add_child(module, child, children)?,
                Item::Use(import) => self.target.modules[module].add_import(&import),
                item => self.target.modules[module].add_item(item),
            }
        }
        Ok(())
    }

    fn add_child(&mut self, module: usize, child: ItemMod, children: &Path) -> Result<(), String> {
        let name = child.ident.to_string();
        let inner = match (child.content, path_attribute(&child.attrs)) {
            (Some((_, items)), _) => {
                let inner = self.begin(Some(module), self.target.file_of(module));
                self.fill(inner, items, &children.join(&name))?;
                inner
            }
            (None, Some(path)) => {
                let file = &self.target.files[self.target.file_of(module)].path;
                let path = file.parent().unwrap_or(Path::new("")).join(path);
                let text = (self.read)(&path)
                    .ok_or_else(|| format!("{} cannot be read", path.display()))?;
                let children = path.parent().unwrap_or(Path::new("")).to_owned();
                self.load(&path, &text, Some(module), &children)?
            }
            (None, None) => {
                let folder = children.join(&name);
                let places = [children.join(format!("{name}.rs")), folder.join("mod.rs")];
                let found = places
                    .iter()
                    .find_map(|path| Some((path, (self.read)(path)?)));
                let (path, text) =
                    found.ok_or_else(|| format!("{} is missing", places[0].display()))?;
                self.load(path, &text, Some(module), &folder)?
            }
        };
        let names = &mut self.target.modules[module].names;
        names
            .entry(name)
            .or_default()
            .push(Definition::Module(inner));
        Ok(())
    }
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|a| a.path().is_ident("path"))?;
    let syn::Expr::Lit(literal) = &attribute.meta.require_name_value().ok()?.value else {
        return None;
    };
    match &literal.lit {
        syn::Lit::Str(text) => Some(text.value()),
        _ => None,
    }
}

impl Module {
    fn add_item(&mut self, item: Item) {
        // Imports in functions count as the module's: two functions seldom give a name two meanings.
        let mut inner = InnerImports(Vec::new());
        inner.visit_item(&item);
        inner.0.iter().for_each(|import| self.add_import(import));
        if let Some((name, is_public)) = name(&item) {
            if is_public {
                self.public.push(name.clone());
            }
            self.names.entry(name).or_default().push(Definition::Item);
        }
        self.items.push(item);
    }

    fn add_import(&mut self, import: &ItemUse) {
        let start = match import.leading_colon {
            Some(_) => vec!["::".to_owned()],
            None => Vec::new(),
        };
        let is_reexport = !matches!(import.vis, Visibility::Inherited);
        self.add_tree(&import.tree, start, is_reexport);
    }

    fn add_tree(&mut self, tree: &UseTree, mut path: Vec<String>, is_reexport: bool) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.add_tree(&tree.tree, path, is_reexport);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, path.clone(), is_reexport);
                }
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.globs.push(Glob { path, line });
            }
            UseTree::Name(tree) => {
                let name = tree.ident.to_string();
                let line = tree.ident.span().start().line;
                self.add_name(path, &name, None, (line, is_reexport));
            }
            UseTree::Rename(tree) => {
                let line = tree.ident.span().start().line;
                let rename = tree.rename.to_token_stream().to_string();
                self.add_name(
                    path,
                    &tree.ident.to_string(),
                    Some(rename),
                    (line, is_reexport),
                );
            }
        }
    }

    fn add_name(
        &mut self,
        mut path: Vec<String>,
        name: &str,
        rename: Option<String>,
        (line, is_reexport): (usize, bool),
    ) {
        if name != "self" || path.is_empty() {
            path.push(name.to_owned());
        }
        let known = rename.unwrap_or_else(|| path.last().cloned().unwrap_or_default());
        let import = Import {
            path,
            line,
            is_reexport,
        };
        self.names
            .entry(known)
            .or_default()
            .push(Definition::Import(import));
    }
}

struct InnerImports(Vec<ItemUse>);

impl<'ast> Visit<'ast> for InnerImports {
    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        self.0.push(import.clone());
    }
}

/// The name of an item, and whether more than the module sees it.
fn name(item: &Item) -> Option<(String, bool)> {
    let (name, visibility) = match item {
        Item::Const(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Fn(item) => (&item.sig.ident, &item.vis),
        Item::Static(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::TraitAlias(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        Item::Union(item) => (&item.ident, &item.vis),
        Item::Macro(item) => return Some((item.ident.as_ref()?.to_string(), false)),
        _ => return None,
    };
    Some((
        name.to_string(),
        matches!(visibility, Visibility::Public(_)),
    ))
}

/// Takes out what only tests see.
struct WithoutTests;

impl VisitMut for WithoutTests {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items
            .retain(|item| !item_attributes(item).iter().any(is_test));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| !item_attributes(item).iter().any(is_test));
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, block: &mut syn::ItemImpl) {
        block.items.retain(|item| match item {
            syn::ImplItem::Fn(item) => !item.attrs.iter().any(is_test),
            syn::ImplItem::Const(item) => !item.attrs.iter().any(is_test),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, block);
    }

    fn visit_item_trait_mut(&mut self, item: &mut syn::ItemTrait) {
        item.items.retain(|item| match item {
            syn::TraitItem::Fn(item) => !item.attrs.iter().any(is_test),
            _ => true,
        });
        visit_mut::visit_item_trait_mut(self, item);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(|statement| match statement {
            syn::Stmt::Local(local) => !local.attrs.iter().any(is_test),
            syn::Stmt::Item(item) => !item_attributes(item).iter().any(is_test),
            syn::Stmt::Macro(item) => !item.attrs.iter().any(is_test),
            syn::Stmt::Expr(syn::Expr::Block(inner), _) => !inner.attrs.iter().any(is_test),
            syn::Stmt::Expr(..) => true,
        });
        visit_mut::visit_block_mut(self, block);
    }
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[test]`, or a `cfg` that only tests fulfil.
fn is_test(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    if !attribute.path().is_ident("cfg") {
        return false;
    }
    let syn::Meta::List(list) = &attribute.meta else {
        return false;
    };
    let condition = list.tokens.to_string().replace(' ', "");
    condition == "test"
        || condition.strip_prefix("all(").is_some_and(|all| {
            all.trim_end_matches(')')
                .split(',')
                .any(|part| part == "test")
        })
}
