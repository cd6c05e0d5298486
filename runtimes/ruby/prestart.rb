# frozen_string_literal: true

# Waits in an unclaimed instance; from the claim on this process is the function's.
#
# `bootstrap.rb` loads it when it is told no handler: all that it requires is there then. It reads a
# `Begin` (operator/wire/src/prestart.rs) from a descriptor that runtime.toml has put beside the standard
# ones, and returns when ENV, ARGV and the folder are the function's. It is loaded with a module of its
# own around it: it leaves no method and no constant. What it requires, a handler would see.
#
# A process that starts only now might find something else than this one found, by code or layers that
# came with the claim. Then it starts that process in its own place. runtime.toml names the variables
# that Ruby and the C library read once.

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

# Whether all is now as in a process that starts so.
def become?(command, folder, variables, looked_in)
  Dir.chdir(folder)
  ENV.clear
  variables.each { |name, value| ENV[name] = value }
  own = File.binread('/proc/self/cmdline').split("\0").first(2)
  command.first(2) == own && !libraries_came?(looked_in) && !hidden? && same_gems?
rescue StandardError
  false
end

# What the loader may know of its folders: names, or that there is no such folder.
def loader_folders
  folders = ENV.fetch('LD_LIBRARY_PATH', '').split(':').reject(&:empty?)
  folders.to_h { |folder| [folder, names_in(folder)] }
end

def names_in(folder)
  Dir.children(folder)
rescue SystemCallError
  nil
end

# The loader looks no more for a folder that it has missed, nor for what it has loaded.
def libraries_came?(looked_in)
  # Not by lines: Ruby counts those.
  loaded = File.read('/proc/self/maps').split("\n").grep(%r{/}).map { |line| File.basename(line) }
  looked_in.any? do |folder, before|
    came = (names_in(folder) || []) - (before || [])
    came.any? { |name| name == 'glibc-hwcaps' || (before ? loaded.include?(name) : name.include?('.so')) }
  end
end

# Whether code or a layer has a file by the name of one that is loaded from elsewhere, or of one that
# RubyGems has looked for.
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

# Whether the gems of what is loaded are still those that would be taken. Forgets what it knows of
# others, and of the folders below HOME.
def same_gems?
  %i[@data_home @config_home @cache_home @state_home].each do |place|
    Gem.remove_instance_variable(place) if Gem.instance_variable_defined?(place)
  end
  Gem.clear_paths
  Gem.loaded_specs.all? do |name, spec|
    Gem::Specification.stubs_for(name).first&.loaded_from == spec.loaded_from
  end
end

# Another process in the place of this one.
def start(command, folder, variables)
  program, *rest = command
  exec(variables.to_h, [program, program], *rest, chdir: folder, unsetenv_others: true)
rescue SystemCallError => error
  $stderr.write("#{program} cannot be started: #{error.message}\n")
  exit!(127)
end

main
