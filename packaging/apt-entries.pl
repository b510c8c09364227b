#!/usr/bin/perl
# Prints this machine's own apt entries for Debian's main archive, in the format that they are written in.
#
#   apt-entries.pl list              each Debian entry as it stands (release, updates, security)
#   apt-entries.pl suite NAME ARCH   the entry of the running release, rewritten for suite NAME, component main
#   apt-entries.pl keyrings          the key files that the entries name
#
# The first line of `list` and `suite` is the extension of the file to write: `sources` (deb822) or `list`.
# Mirror address, keyring, trust and every other option are kept as they are, so whatever makes the machine's apt
# work (a proxy, a local mirror, https, a key of one's own) works for the entry that is made from it.
# Needs the package lists to be there (`apt-get update`). Perl, because a bare Debian has it and no Python.
use strict;
use warnings;

my ($mode, @arguments) = @ARGV;
die "usage: apt-entries.pl list | suite NAME ARCH | keyrings\n" unless defined $mode;

sub slurp {
  my ($file) = @_;
  open my $handle, '<', $file or die "$file: $!\n";
  local $/;
  return scalar <$handle>;
}

# The targets of the running release, its updates and security fixes, as apt itself reads its configuration. Entries
# for another release are of no interest: one of them may be what this program was once asked to make.
sub targets {
  my ($running) = slurp('/etc/os-release') =~ /^VERSION_CODENAME=(\w+)/m
      or die "/etc/os-release tells no code name of a release\n";
  my $format = join '|', map { "\$($_)" } qw(SOURCESENTRY REPO_URI RELEASE COMPONENT CODENAME LABEL);
  open my $pipe, '-|', 'apt-get', 'indextargets', '--format', $format, 'Created-By: Packages'
      or die "apt-get indextargets: $!\n";
  my @found;
  while (my $line = <$pipe>) {
    chomp $line;
    my ($entry, $uri, $release, $component, $codename, $label) = split /\|/, $line;
    next unless $component eq 'main' and $label =~ /^Debian(-Security)?$/ and $codename =~ /^$running(-|$)/;
    (my $file = $entry) =~ s/:\d+$//;
    $uri =~ s{/+$}{};
    push @found, {file => $file, uri => $uri, release => $release, codename => $codename};
  }
  close $pipe;
  return @found;
}

# "Name: value" fields of a deb822 stanza, continuation lines included, in their order.
sub fields {
  my ($stanza) = @_;
  my @fields;
  for my $line (split /\n/, $stanza) {
    next if $line =~ /^#/;
    if ($line =~ /^([^\s:]+):\s*(.*)$/) { push @fields, [$1, $2]; }
    elsif (@fields)                     { $fields[-1][1] .= "\n$line"; }
  }
  return @fields;
}

sub words_match {
  my ($words, $wanted) = @_;
  return grep { (my $word = $_) =~ s{/+$}{}; $word eq $wanted } split ' ', $words;
}

# The stanza or line of `file` that `target` comes from, as {kind, fields} or {kind, options, uri, suite}.
sub entry_of {
  my ($target) = @_;
  my $text = slurp($target->{file});
  if ($target->{file} =~ /\.sources$/) {
    for my $stanza (split /\n[ \t]*(?:\n[ \t]*)*\n/, $text) {
      my @fields = fields($stanza);
      my %value = map { lc $_->[0] => $_->[1] } @fields;
      next if !defined $value{uris} or lc($value{enabled} // 'yes') =~ /^(no|false|0|off|without|disable)$/;
      next unless words_match($value{uris}, $target->{uri}) and words_match($value{suites} // '', $target->{release});
      return {kind => 'sources', fields => \@fields};
    }
  } else {
    for my $line (split /\n/, $text) {
      next unless $line =~ m{^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]*)};
      my ($options, $uri, $suite, $components) = ($1 // '', $2, $3, $4);
      next unless words_match($uri, $target->{uri}) and words_match($suite, $target->{release})
          and words_match($components, 'main');
      return {kind => 'list', options => $options, uri => $uri, suite => $suite};
    }
  }
  return undef;
}

# The entry's text with suite and component replaced; `arch` also narrows it to one architecture's package index.
sub rewritten {
  my ($entry, $suite, $arch) = @_;
  if ($entry->{kind} eq 'list') {
    my @options = grep { !/^(arch|lang|target)[+-]?=/i } split ' ', $entry->{options};
    push @options, "arch=$arch", 'target=Packages' if defined $arch;
    my $options = @options ? "[@options] " : '';
    return "deb $options$entry->{uri} $suite main\n";
  }
  my $text = "Types: deb\nSuites: $suite\nComponents: main\n";
  $text .= "Architectures: $arch\nTargets: Packages\n" if defined $arch;
  for my $field (@{$entry->{fields}}) {
    next if $field->[0] =~ /^(Types|Suites|Components|Enabled|Architectures|Languages|Targets|X-.*)([-+]?|-Add|-Remove)$/i;
    $text .= "$field->[0]: $field->[1]\n";
  }
  return $text;
}

my @targets = targets();
die "apt knows no package list of Debian's main archive; run apt-get update first\n" unless @targets;

if ($mode eq 'suite') {
  my ($suite, $arch) = @arguments;
  # The release itself, not its updates or security fixes: their code names carry a suffix.
  for my $target (grep { $_->{codename} !~ /-/ } @targets) {
    my $entry = entry_of($target) or next;
    print "$entry->{kind}\n", rewritten($entry, $suite, $arch);
    exit 0;
  }
  die "no apt entry for a Debian release was found among: " . join(' ', map { $_->{file} } @targets) . "\n";
}

my (%seen, %text, %keyrings);
for my $target (@targets) {
  my $entry = entry_of($target) or next;
  if ($entry->{kind} eq 'sources') {
    for (@{$entry->{fields}}) {
      $keyrings{$_->[1]} = 1 if lc $_->[0] eq 'signed-by' and $_->[1] =~ m{^/\S+$};
    }
  } elsif ($entry->{options} =~ m{signed-by=(/\S+)}i) {
    $keyrings{$1} = 1;
  }
  next if $seen{"$target->{uri} $target->{release}"}++;
  push @{$text{$entry->{kind}}}, rewritten($entry, $target->{release});
}
if ($mode eq 'keyrings') {
  print map { "$_\n" } sort keys %keyrings;
} elsif ($mode eq 'list') {
  # A machine with both formats: the one that holds the release comes first, the other is of no use to a new system.
  my ($kind) = sort { @{$text{$b}} <=> @{$text{$a}} } sort keys %text;
  die "none of apt's Debian entries could be read\n" unless defined $kind;
  print "$kind\n", join($kind eq 'sources' ? "\n" : '', @{$text{$kind}});
} else {
  die "apt-entries.pl: unknown word '$mode'\n";
}
