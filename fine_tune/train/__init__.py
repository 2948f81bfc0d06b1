"""One file and one public function per training method; each loop is written out."""
