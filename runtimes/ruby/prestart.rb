# frozen_string_literal: true

# Waits in an unclaimed instance. After the claim, this process is the function's runtime process.
#
# `bootstrap.rb` loads this file when its command line has no handler; by then it has loaded its own libraries.
# This file reads a `Begin` (operator/wire/src/prestart.rs) from a descriptor that runtime.toml has opened in
# addition to the standard ones. It returns when ENV, ARGV and the folder are the function's. Ruby wraps the file
# in an anonymous module, so it leaves no method or constant. It requires no library, because a handler would see it.
#
# The claim may bring code or layers with which a fresh process would load other files than this process has
# loaded. Then this process replaces itself with a fresh one. runtime.toml names the variables that Ruby and the
# C library read only once.

BEGIN_DESCRIPTOR = 100

def main
  looked_in = loader_folders
  text = IO.open(BEGIN_DESCRIPTOR, &:read)
  exit!(0) if text.empty?
  told = JSON.parse(text)
  command, folder, variables = told.values_at('command', 'taskRoot', 'environment')
  start(command, folder, variables) unless become?(command, folder, variables, looked_in)
  as_at_start = ->(word) { word.force_encoding(Encoding.find('locale')).freeze }
  ARGV.replace(command.drop(2).map(&as_at_start))
end

# Takes over the folder and the variables. Returns whether a fresh process would now be in the same state.
def become?(command, folder, variables, looked_in)
  Dir.chdir(folder)
  ENV.clear
  variables.each { |name, value| ENV[name] = value }
  own = File.binread('/proc/self/cmdline').split("\0").first(2)
  command.first(2) == own && !libraries_came?(looked_in) && !hidden? && same_gems?
rescue StandardError
  false
end

# The state of the loader's folders as the loader may remember it: names of files, or nil if absent.
def loader_folders
  folders = ENV.fetch('LD_LIBRARY_PATH', '').split(':').reject(&:empty?)
  folders.to_h { |folder| [folder, names_in(folder)] }
end

def names_in(folder)
  Dir.children(folder)
rescue SystemCallError
  nil
end

# Whether the claim brought libraries that a fresh process would load. The loader never looks again for a folder
# that was absent, or for a library that it has loaded.
def libraries_came?(looked_in)
  # Not read line by line, because that would change `$.`, which a handler can see.
  loaded = File.read('/proc/self/maps').split("\n").grep(%r{/}).map { |line| File.basename(line) }
  looked_in.any? do |folder, before|
    came = (names_in(folder) || []) - (before || [])
    came.any? { |name| name == 'glibc-hwcaps' || (before ? loaded.include?(name) : name.include?('.so')) }
  end
end

# Whether the code or a layer has a file with the name of one that is loaded from elsewhere, or of one that RubyGems
# has looked for. A fresh process would load that file.
def hidden?
  own = ENV.fetch('RUBYLIB', '').split(':').map { |folder| File.expand_path(folder) }
  elsewhere = ($LOAD_PATH - own).map { |folder| "#{folder}/" }
  names = $LOADED_FEATURES.filter_map do |feature|
    place = elsewhere.select { |folder| feature.start_with?(folder) }.max_by(&:size)
    feature.delete_prefix(place).delete_suffix(File.extname(feature)) if place
  end
  names << "rubygems/defaults/#{RUBY_ENGINE}"
  own.select { |folder| File.directory?(folder) }.any? do |folder|
    names.any? { |name| File.exist?("#{folder}/#{name}.rb") || File.exist?("#{folder}/#{name}.so") }
  end
end

# Whether a fresh process would choose the same versions of the loaded gems. Also clears what RubyGems remembers of
# other gems and of the folders below HOME.
def same_gems?
  %i[@data_home @config_home @cache_home @state_home].each do |place|
    Gem.remove_instance_variable(place) if Gem.instance_variable_defined?(place)
  end
  Gem.clear_paths
  Gem.loaded_specs.all? do |name, spec|
    Gem::Specification.stubs_for(name).first&.loaded_from == spec.loaded_from
  end
end

# Replaces this process with a fresh one.
def start(command, folder, variables)
  program, *rest = command
  exec(variables.to_h, [program, program], *rest, chdir: folder, unsetenv_others: true)
rescue SystemCallError => error
  $stderr.write("#{program} cannot be started: #{error.message}\n")
  exit!(127)
end

main
