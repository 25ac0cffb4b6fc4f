//! The care for tables.

use vintner_core::Ttl;
use vintner_ops::api::{
    DEFAULT_RETENTION, FolderVacuum, PinnedFile, VacuumRequest, Vacuumed, VacuumedFile,
    ViewCompaction, ViewVacuum,
};
use vintner_proto::{convert::ConvertError, v1};

use super::{Travels, from_each, parse_each, required, texts, to_each, wrong};

impl Travels for ViewCompaction {
    type Message = v1::ViewCompaction;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ViewCompaction {
            view: Some(self.view.into_message()?),
            table_version: self.table_version,
            files_before: self.files_before,
            files_removed: self.files_removed,
            files_added: self.files_added,
            bytes_removed: self.bytes_removed,
            bytes_added: self.bytes_added,
            rows: self.rows,
            micros: self.micros,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            table_version: message.table_version,
            files_before: message.files_before,
            files_removed: message.files_removed,
            files_added: message.files_added,
            bytes_removed: message.bytes_removed,
            bytes_added: message.bytes_added,
            rows: message.rows,
            micros: message.micros,
        })
    }
}

impl Travels for VacuumRequest {
    type Message = v1::VacuumRequest;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::VacuumRequest {
            views: texts(&self.views),
            retention: self.retention.micros(),
            dry_run: self.dry_run,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let too_long = || wrong("is longer than time can be told").within("retention");
        Ok(Self {
            views: parse_each("views", &message.views)?,
            retention: match message.retention {
                0 => DEFAULT_RETENTION.parse().map_err(wrong)?,
                micros => Ttl::from_micros(micros).ok_or_else(too_long)?,
            },
            dry_run: message.dry_run,
        })
    }
}

impl Travels for Vacuumed {
    type Message = v1::VacuumResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::VacuumResponse {
            views: to_each(self.views)?,
            folders: to_each(self.folders)?,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            views: from_each("views", message.views)?,
            folders: from_each("folders", message.folders)?,
        })
    }
}

impl Travels for FolderVacuum {
    type Message = v1::FolderVacuum;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::FolderVacuum {
            folder: self.folder,
            deleted: to_each(self.deleted)?,
            retained: self.retained,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            folder: message.folder,
            deleted: from_each("deleted", message.deleted)?,
            retained: message.retained,
        })
    }
}

impl Travels for ViewVacuum {
    type Message = v1::ViewVacuum;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ViewVacuum {
            view: Some(self.view.into_message()?),
            deleted: to_each(self.deleted)?,
            pinned: to_each(self.pinned)?,
            retained: self.retained,
            lost_versions: self.lost_versions,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            deleted: from_each("deleted", message.deleted)?,
            pinned: from_each("pinned", message.pinned)?,
            retained: message.retained,
            lost_versions: message.lost_versions,
        })
    }
}

impl Travels for VacuumedFile {
    type Message = v1::VacuumedFile;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        let Self { path, bytes } = self;
        Ok(v1::VacuumedFile { path, bytes })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let v1::VacuumedFile { path, bytes } = message;
        Ok(Self { path, bytes })
    }
}

impl Travels for PinnedFile {
    type Message = v1::PinnedFile;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::PinnedFile {
            path: self.path,
            bytes: self.bytes,
            versions: self.versions,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            path: message.path,
            bytes: message.bytes,
            versions: message.versions,
        })
    }
}
