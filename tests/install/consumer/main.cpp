// Prints the resolved defaults of a configuration file and the SHA-256 of the empty text.
#include <mmkd/base/hash.h>
#include <mmkd/config/load.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto loaded = mmkd::load_config(argv[1]);
  std::cout << mmkd::sha256_hex("") << "\n" << loaded.config.training.teacher_epochs << "\n";
  return 0;
}
