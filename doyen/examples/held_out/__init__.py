"""Questions for comparing, made from documents that training does not see, and looked through by a person."""
