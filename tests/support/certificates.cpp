#include "support/certificates.h"

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "support/process.h"

namespace ratelimiter::testing {
namespace {

class Folder {
 public:
  Folder() {
    std::string path = std::filesystem::temp_directory_path() / "certificates.XXXXXX";
    if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot make a folder");
    path_ = path;
    if (Process({MAKE_CERTIFICATES, path}, "/dev/null").Wait() != 0) {
      throw std::runtime_error("cannot make certificates");
    }
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string Path(const std::string& file) const { return path_ / file; }

 private:
  std::filesystem::path path_;
};

std::string Path(const std::string& file) {
  static const Folder folder;
  return folder.Path(file);
}

}  // namespace

std::string Certificate(const std::string& name) { return Path(name + ".crt"); }

std::string KeyOf(const std::string& name) { return Path(name + ".key"); }

}  // namespace ratelimiter::testing
