//! `init`: a small repo that works at once, with data.

use std::{fs, io, path::Path};

use crate::{
    exit::{Exit, Failure},
    output,
};

/// The files, relative to the new folder.
const FILES: [(&str, &str); 6] = [
    ("vintner.yaml", include_str!("../../template/vintner.yaml")),
    (
        "features.yaml",
        include_str!("../../template/features.yaml"),
    ),
    (
        "data/profiles.csv",
        include_str!("../../template/data/profiles.csv"),
    ),
    (
        "data/orders.csv",
        include_str!("../../template/data/orders.csv"),
    ),
    (
        "data/decisions.csv",
        include_str!("../../template/data/decisions.csv"),
    ),
    (".gitignore", include_str!("../../template/gitignore")),
];

pub(crate) fn init(dir: &Path) -> Result<Exit, Failure> {
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Failure::input(format!(
                    "{} is not empty; name a new folder",
                    dir.display()
                )));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(Failure::input(format!(
                "{} cannot be used: {error}",
                dir.display()
            )));
        }
    }
    for (name, text) in FILES {
        let path = dir.join(name);
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, text));
        written.map_err(|error| {
            Failure::store(format!("could not write {}: {error}", path.display()))
        })?;
    }
    output::text(&format!(
        "wrote a feature repo to {dir}; next:\n\
         \n  cd {dir}\
         \n  vintner check\
         \n  vintner apply --yes\
         \n  vintner materialize\
         \n  vintner get-historical --service churn_model --entity-rows data/decisions.csv --out out/training.csv\
         \n  vintner get-online --service churn_model --entity customer_id=1",
        dir = dir.display()
    ))?;
    Ok(Exit::Done)
}
